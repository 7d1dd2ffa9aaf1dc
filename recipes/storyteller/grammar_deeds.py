"""What else a hero can want: deeds to learn and sights to see, with why and what then.

The phrases are as in grammar_things.
"""

from __future__ import annotations

from typing import NamedTuple


class Deed(NamedTuple):
    """Something to learn: "to swim". Each of `faults` is what goes wrong and what helps."""

    word: str
    phrase: str
    why: tuple[str, ...]
    faults: tuple[tuple[str, str], ...]
    then: tuple[str, ...]


DEEDS: tuple[Deed, ...] = (
    Deed(
        "swim",
        "to learn to swim",
        ("the lake was so blue", "all {his} friends could"),
        (
            ("{he} held {his} breath and sank", "You must breathe and lie flat on the water"),
            (
                "{he} kicked so hard that {he} turned in circles",
                "Slow legs go further than fast ones",
            ),
        ),
        (
            "{H} could swim right across the lake, and back again for {his} towel.",
            "All summer {H} would swim at dawn, when the water was pink.",
        ),
    ),
    Deed(
        "dance",
        "to learn to dance",
        ("the autumn feast was near", "music made {his} toes itch"),
        (
            ("{he} looked at {his} feet and fell over them", "Look at the sky and listen"),
            ("{he} counted so loudly that {he} missed the music", "Let the music do the counting"),
        ),
        (
            "At the feast {H} began to dance, and nobody in {the_place} could sit still.",
            "{H} would dance with anyone after that, even with the broom.",
        ),
    ),
    Deed(
        "sing",
        "to learn to sing",
        ("{his} voice squeaked", "the choir needed one more"),
        (
            (
                "{he} opened {his} mouth and only a squeak came out",
                "Sing from your belly, not your nose",
            ),
            (
                "{he} started so high that {he} could not climb down",
                "Begin low, like a cat by the fire",
            ),
        ),
        (
            "{H} stood up to sing, and even the kettle stopped to listen.",
            "Every evening {H} would sing the sun to sleep.",
        ),
    ),
    Deed(
        "bake",
        "to learn to bake",
        ("bought bread was so dear", "{he} loved the smell of crust"),
        (
            ("{he} forgot the yeast and the loaf was a stone", "Yeast first, then patience"),
            ("{he} opened the oven too early and the loaf fell in", "Bread is shy, so do not peep"),
        ),
        (
            "{H} could bake bread so good that the queue went round the corner.",
            "Every Friday {H} would bake one loaf more than {he} needed, and give it away.",
        ),
    ),
    Deed(
        "skate",
        "to learn to skate",
        ("the pond was frozen", "{he} wished to glide like a swan"),
        (
            ("{he} stood as stiff as a post and fell like one", "Bend your knees and lean forward"),
            ("{he} looked behind {him} and met a snowman", "Look where you wish to go"),
        ),
        (
            "{H} could skate in circles, and wrote {his} own name on the ice.",
            "All winter {H} would skate home along the river, faster than the sleighs.",
        ),
    ),
    Deed(
        "juggle",
        "to learn to juggle",
        ("the circus was coming", "{he} had three plums"),
        (
            (
                "{he} watched {his} own {hands} and dropped all the plums",
                "Watch the plums, not yourself",
            ),
            ("{he} threw all of them at once", "Begin with one plum, then two"),
        ),
        (
            "{H} could juggle five plums, and then eat them.",
            "When the circus came, {H} was asked to juggle, and the clowns clapped.",
        ),
    ),
    Deed(
        "paint",
        "to learn to paint",
        ("the fence was so grey", "the sunset was over too soon"),
        (
            ("{he} used so much water that the picture ran away", "Use less water and more time"),
            ("{he} mixed all the colours and got mud", "Two colours are company, seven are mud"),
        ),
        (
            "{H} began to paint the fence, and soon it was the gayest fence for miles.",
            "{H} would paint every sunset, so that none was ever lost.",
        ),
    ),
    Deed(
        "knit",
        "to learn to knit",
        ("the winter was coming", "{his} friends had cold ears"),
        (
            ("{he} pulled the wool so tight that it snapped", "Hold the wool like a baby bird"),
            ("{he} lost count and made a sock with two heels", "Count softly and stop for tea"),
        ),
        (
            "{H} could knit a sock in a day, and two on a rainy one.",
            "By winter {H} could knit so well that all ears in {the_place} were warm.",
        ),
    ),
    Deed(
        "row",
        "to learn to row",
        ("the race was on Sunday", "the fish lived so far out"),
        (
            (
                "{he} pulled with one oar and went round and round",
                "Both arms together, like clapping",
            ),
            ("{he} splashed so much that the boat filled up", "Dip the oars, do not slap them"),
        ),
        (
            "{H} could row straight as a string, and came third in the race.",
            "At dusk {H} would row out and wave to the lighthouse.",
        ),
    ),
    Deed(
        "climb",
        "to learn to climb",
        ("the view was said to be fine", "the best pears hung high"),
        (
            ("{he} looked down and could not move", "Look at the next branch, never at the ground"),
            (
                "{he} took a rotten branch and came down with it",
                "Test each branch before you trust it",
            ),
        ),
        (
            "{H} could climb the tallest tree, and saw all of {the_place} at once.",
            "In autumn {H} would climb for the highest pears and throw them down to everybody.",
        ),
    ),
    Deed(
        "read",
        "to learn to read",
        ("the signs told {him} nothing", "there was a letter for {him}"),
        (
            ("{he} mixed up the letters and read soup as soap", "Go slowly, one letter at a time"),
            ("{he} guessed the words and guessed wrong", "Do not guess; look, then say it"),
        ),
        (
            "{H} could read the letter at last, and it said good things.",
            "After that {H} would read the signs aloud to everyone, whether they asked or not.",
        ),
    ),
    Deed(
        "whisper",
        "to learn to whisper",
        ("{his} voice was as loud as a horn", "the baby was asleep"),
        (
            ("{he} tried, and woke the whole street", "Say it as if to a butterfly"),
            ("{he} forgot after the first word", "Breathe out first, then speak"),
        ),
        (
            "{H} could whisper so softly that the mice came closer to hear.",
            "{H} would whisper good night to each of {his} friends, and nobody woke.",
        ),
    ),
)


class Sight(NamedTuple):
    """Something to see at the end of a journey."""

    word: str
    phrase: str
    why: tuple[str, ...]
    then: tuple[str, ...]


SIGHTS: tuple[Sight, ...] = (
    Sight(
        "sea",
        "to see the sea",
        ("{he} had only heard it in a shell", "the gulls spoke of it"),
        (
            "And there was the sea, wider than all {his} thoughts, and {H} said nothing for once.",
            "{H} took off {his} shoes and let the sea say good morning to {his} toes.",
        ),
    ),
    Sight(
        "lighthouse",
        "to see the lighthouse",
        ("its light winked at {him} at night", "{he} had counted its flashes"),
        (
            "The lighthouse stood there, white and tall, and {H} was allowed to wind the lamp.",
            "From the top of the lighthouse {H} could see home, no bigger than a crumb.",
        ),
    ),
    Sight(
        "waterfall",
        "to see the waterfall",
        ("{he} could hear it on still nights", "it was said to sing"),
        (
            "The waterfall thundered and sparkled, and {H} laughed until {he} was soaked.",
            "Behind the waterfall was a little cave, and there {H} ate {his} sandwiches.",
        ),
    ),
    Sight(
        "market",
        "to see the great market",
        ("it was said to smell of oranges", "{he} had saved one coin"),
        (
            "The market was as loud as a hundred geese, and {H} bought one orange and shared it.",
            "{H} walked through the market twice, once with open eyes and once with open nose.",
        ),
    ),
    Sight(
        "circus",
        "to see the circus",
        ("there was a picture of it on the gate", "it came only once"),
        (
            "The circus had a lion who sneezed, and {H} clapped until {his} {hands} were hot.",
            "{H} sat in the first row of the circus, and a clown gave {him} a paper rose.",
        ),
    ),
    Sight(
        "sunrise",
        "to see the sunrise from the hill",
        ("{he} had always slept too long", "it was said to be golden"),
        (
            "The sunrise came slowly, first grey, then rose, then gold, and {H} forgot to blink.",
            "{H} watched the sunrise to the end, and then slept in the grass until noon.",
        ),
    ),
    Sight(
        "whale",
        "to see the whale",
        ("nobody believed in it", "it was said to be as big as a church"),
        (
            "The whale came up, blew like a fountain, and looked at {H} with one kind eye.",
            "{H} waved, and the whale waved back with a tail as wide as a barn.",
        ),
    ),
    Sight(
        "library",
        "to see the library",
        ("it had more books than there were sheep", "{he} liked stories"),
        (
            "The library was quiet and tall, and {H} read on the floor until closing time.",
            "In the library {H} found a book about {the_place}, and {he} was nearly in it.",
        ),
    ),
)
