"""How a hero learns a deed or travels to a sight: phrase tables of the other plots."""

from __future__ import annotations

from recipes.storyteller.grammar_frame import Maybe
from recipes.storyteller.grammar_plots import Plot

LEARN = Plot(
    2,
    ("days", "sound"),
    (
        ("seven days", "a sigh"),
        ("three weeks", "a bump"),
        ("a whole month", "a squeak"),
        ("nine evenings", "a groan"),
        ("half the summer", "a thump"),
        ("many a morning", "a giggle"),
    ),
    (
        (
            Maybe(("{weather}",)),
            (
                "{H} tried it alone first, but {fault}.",
                "On the first day {fault}.",
                "So {he} went behind the barn, where nobody could see, and tried. But {fault}.",
            ),
            (
                "{He} tried again, and it was no better.",
                "The second time was worse than the first.",
                "All that could be heard was {sound}, and then silence.",
            ),
            ("{sigh}",),
        ),
        (
            ("{meeting}",),
            (
                '"I saw that," said {F}. "Then you saw that I shall never {w}," said {H}.',
                (
                    '"What are you trying to do?" asked {F}. "I want to {w}," said '
                    '{H}, "but I cannot."'
                ),
                '"Are you hurt?" asked {F}. "Only my pride," said {H}. "I cannot {w}."',
            ),
            (
                '"Nobody can at first," said {F}. "{advice}."',
                '"I could not {w} either, once," said {F}. "{advice}."',
                '{F} sat down beside {him}. "{advice}," {fhe} said. "That is the whole secret."',
            ),
            (
                "So they practised for {days}, and each day it went a little better.",
                "They met for {days}, and {F} was never once cross.",
                "It took {days} and a great many sandwiches.",
            ),
            Maybe(
                (
                    "Sometimes {H} wished to give up, but {F} would not hear of it.",
                    '"Again," said {F}, and {H} did it again.',
                    "There was often {sound}, and then they both laughed.",
                )
            ),
            (
                "Then one day it went right, and {H} shouted for joy.",
                "And suddenly, when {he} was not even thinking of it, {H} could do it.",
                '"Look!" cried {H}. "I can {w}!"',
            ),
            Maybe(("{thanks}",)),
        ),
    ),
)

TRAVEL = Plot(
    2,
    ("block", "plan", "done"),
    (
        (
            "{he} came to a river, and the bridge had been washed away",
            "We can lay this fallen tree across",
            "they pushed the tree over the water and walked across it with open arms",
        ),
        (
            "night fell, and it was too dark to see the road",
            "We can catch the light of the moon in my bucket",
            "they carried a bucket of water, and the moon floated in it and showed them the way",
        ),
        (
            "{he} came to a gate that was locked",
            "I know the keeper, and she likes a good joke",
            "they told the keeper a joke about a snail, and she opened the gate",
        ),
        (
            "{he} came to three roads and did not know which to take",
            "Take the one that smells of it",
            "they sniffed at all three and took the one in the middle",
        ),
        (
            "a thick fog came down and hid the road",
            "If we sing, we shall not lose each other",
            "they sang and held on to one rope until the fog was gone",
        ),
        (
            "{he} came to a crossroads, and the signpost had fallen over",
            "You come from that way, so turn it until your home is right",
            "they stood the signpost up again, and all of its arms were right",
        ),
        (
            "{he} met a bull in the middle of the road",
            "He only wants his clover",
            "they threw clover over the hedge, and the bull went after it",
        ),
        (
            "the road ended at a wall of thorns",
            "Somebody has dug a tunnel here, and I think it was me",
            "they crept through the tunnel one behind the other",
        ),
        (
            "{he} came to a river, and the ferry was on the wrong side",
            "If we wave something red, they will see us",
            "they waved a red sock, and the ferry came across",
        ),
        (
            "the road went up a hill so steep that {he} slid back",
            "We must go in zigzags, like the goats",
            "they went up in zigzags, and had time to talk on the way",
        ),
    ),
    (
        (
            (
                "So {H} packed a loaf, a cheese and a clean handkerchief, and set off.",
                "One morning {H} shut the door, put the key under the pot and walked away.",
                '"It cannot be further than the end of the road," said {H}, and set off.',
            ),
            Maybe(("{weather}",)),
            (
                "{He} walked until noon. Then {block}.",
                "For two days all went well, but on the third {block}.",
                "{He} had not gone far when {block}.",
            ),
            Maybe(("{sigh}",)),
        ),
        (
            ("{meeting}",),
            (
                '"Where are you going?" asked {F}. "To the {w}," said {H}, "but I am stuck."',
                '"You look lost," said {F}. "I only want to see the {w}," said {H}.',
                '"Nobody goes this way," said {F}. "I do," said {H}. "I want to see the {w}."',
            ),
            (
                '"{plan}," said {F}.',
                '{F} looked around. "{plan}," {fhe} said.',
                '"That is easily mended," said {F}. "{plan}."',
            ),
            (
                "And so {done}.",
                "It was a good plan: {done}.",
                "No sooner said than done, and {done}.",
            ),
            Maybe(
                (
                    '"May I come with you?" asked {F}. "I have never seen the {w} myself."',
                    (
                        '"I have lived here all my life," said {F}, "and never been '
                        'to the {w}." So they went on together.'
                    ),
                )
            ),
            (
                "In the evening they shared the cheese, and slept under a hedge.",
                "The last mile was the longest, but two are never tired at the same time.",
                "They walked on, and their shadows grew long and thin.",
            ),
        ),
    ),
)
