"""How a hero comes by a thing: made, earned or fetched.

Phrase tables only. A plot's `turns` hold the facts of one telling (a cause and what mends it), so
that everything said in it fits; one turn is drawn a story. `{t}` is the wanted thing's word.
"""

from __future__ import annotations

from typing import NamedTuple

from recipes.storyteller.grammar_frame import Beat, Maybe


class Plot(NamedTuple):
    """`turns`: slot names and rows of their phrases; `paragraphs`: beats between wish and ending.

    `cast` is how many names it needs: hero, friend `{F}`, third `{G}`.
    """

    cast: int
    slots: tuple[str, ...]
    turns: tuple[tuple[str, ...], ...]
    paragraphs: tuple[tuple[Beat, ...], ...]


SETTLED: Beat = (
    "By evening {H} had {his} {t}.",
    "And so the {t} was {hers} at last.",
    "At last {H} held the {t} in {his} own {hands}.",
    "It was the finest {t} in all of {the_place}, or so {H} thought.",
    "{H} looked at the {t} from all sides, and it was good.",
    "{H} carried the {t} home as proudly as a king carries his crown.",
    "There it was, the {t}, and {H} could hardly believe it.",
)

MAKE = Plot(
    2,
    ("cause", "lesson", "fix"),
    (
        (
            "the glue was still wet",
            "Glue needs a whole night to dry",
            "they let the glue dry until the next morning",
        ),
        (
            "the nails were too short",
            "Short nails are for short jobs",
            "they used nails as long as a finger",
        ),
        (
            "the string was old and thin",
            "Old string is only good for nests",
            "they twisted three new strings into one",
        ),
        (
            "the wood was damp",
            "Damp wood bends when it dries",
            "they dried the wood beside the fire",
        ),
        (
            "{he} had measured nothing",
            "Measure twice and cut once",
            "they measured everything twice",
        ),
        (
            "{he} had begun with the last part",
            "Begin at the bottom",
            "they began at the bottom and went slowly",
        ),
        (
            "{he} had worked in the dark",
            "Good work needs good light",
            "they worked in the sun, with the door wide open",
        ),
        (
            "the paste was made with salt instead of flour",
            "Taste it before you stir it",
            "they made new paste with flour",
        ),
        (
            "{he} had drawn no plan",
            "First the pencil, then the saw",
            "they drew a plan in the sand",
        ),
        ("the knots were loose", "A knot wants a second knot on top", "they tied each knot twice"),
        (
            "one piece was missing",
            "Count the pieces before you start",
            "they laid all the pieces in a row and counted them",
        ),
    ),
    (
        (
            Maybe(("{weather}",)),
            (
                "{H} had no money, so {he} decided to make {a_t} {himself}.",
                "No shop sold such a thing, so {H} set out to make {a_t} {himself}.",
                '"I will make one," said {H}, and fetched {his} tools.',
                '"How hard can it be?" said {H}, and began to make {a_t}.',
            ),
            (
                "{He} worked all day, but {cause}, and the {t} fell to pieces.",
                (
                    "{He} worked until the moon came up, but {cause}, and everything "
                    "came apart in {his} {hands}."
                ),
                "It looked fine for a moment. Then, because {cause}, the {t} fell over and broke.",
            ),
            Maybe(("{sigh}",)),
        ),
        (
            ("{meeting}",),
            (
                '"What happened here?" asked {F}. "I do not know," said {H}, "but {cause_said}."',
                '"That was {a_t}, I think," said {F}. "It was," said {H}, "but {cause_said}."',
                (
                    '"May I look?" asked {F}, and turned a piece over. It was plain '
                    "to see that {cause}."
                ),
            ),
            (
                '"{lesson}," said {F}. "Come, let us try again."',
                '{F} nodded. "{lesson}," {fhe} said. "Shall we do it together?"',
                (
                    '"My grandmother always said: {lesson_low}," said {F}, and '
                    "rolled up {fhis} sleeves."
                ),
            ),
            (
                "So they began again, and this time {fix}.",
                "This time {fix}, and nobody was in a hurry.",
                "They started from the beginning, and now {fix}.",
            ),
            SETTLED,
            Maybe(("{thanks}",)),
        ),
    ),
)

EARN = Plot(
    2,
    ("task", "snag", "idea", "done"),
    (
        (
            "sweep the leaves from the yard",
            "the wind blew them all back",
            "You should sweep with the wind, not against it",
            "{H} went round to the other side, and the wind did half of the sweeping",
        ),
        (
            "carry water to the top of the hill",
            "the bucket had a hole",
            "You could stop the hole with clay",
            "{H} stopped the hole with clay, and not a drop was lost",
        ),
        (
            "wash all the windows",
            "the cloth only made them muddy",
            "You need clean water and old paper",
            "{H} rubbed the glass with old paper until it sang",
        ),
        (
            "find the goat that had run away",
            "the goat would not come when it was called",
            "You must not chase a goat, you must eat in front of it",
            "{H} sat down and ate a turnip very slowly, and the goat came to share it",
        ),
        (
            "paint the long fence",
            "the paint ran out half way",
            "You could paint every second board",
            "{H} painted every second board, and it looked merry",
        ),
        (
            "stack the wood before the rain",
            "the pile fell over each time",
            "You must put the big logs below",
            "{H} put the big logs below, and the pile stood like a wall",
        ),
        (
            "pick all the plums",
            "the last plums were too high",
            "You could shake the tree with a blanket under it",
            "{H} spread a blanket, shook the tree, and it rained plums",
        ),
        (
            "feed the geese",
            "the geese bit everyone who came near",
            "You should sing to them first",
            "{H} sang an old song, and the geese stood still and listened",
        ),
        (
            "bring the hay into the barn",
            "the barn door would not open",
            "You should grease the hinges",
            "{H} greased the hinges with a bit of butter, and the door swung open",
        ),
        (
            "find the lost ring",
            "there was grass everywhere",
            "You should look when the sun is low",
            "{H} waited until the sun was low, and there the ring lay and glittered",
        ),
        (
            "clean the chimney",
            "the brush got stuck",
            "You could tie a rope to it and pull from above",
            "{H} tied a rope to it and pulled, and out came the brush and a great deal of soot",
        ),
    ),
    (
        (
            Maybe(("{weather}",)),
            (
                "{A_friend} had just such {a_t}, but it was dear.",
                "Now there was {a_friend}, who owned {a_t} and did not need it.",
                "In the window of {a_friend} stood {a_t}, polished and new.",
            ),
            (
                '"What must I pay?" asked {H}. "You may have the {t}," said {F}, "if you {task}."',
                (
                    '"I have no money," said {H}. "But you have {hands}," said {F}. '
                    '"If you {task}, the {t} is yours."'
                ),
                (
                    '{F} looked at {H} kindly. "You want the {t}?" {fhe} asked. '
                    '"Then {task} for me, and you shall have it."'
                ),
            ),
            (
                "{H} began at once, but {snag}.",
                "It sounded easy, but {snag}.",
                "{H} worked as hard as {he} could, but {snag}.",
            ),
            Maybe(("{sigh}",)),
        ),
        (
            (
                'Then {F} put {fhis} head out of the window. "{idea}," {fhe} said.',
                '"{idea}," said {F}, who had been watching from the door.',
                '{H} stopped and thought. "I have been doing it wrong," {he} said. "{idea_own}."',
            ),
            ("So {done}.", "And that helped, for {done}.", "After that it went quickly: {done}."),
            (
                '"Well done," said {F}, and gave {H} the {t}.',
                "{F} was so pleased that {fhe} fetched the {t} at once.",
                '"A promise is a promise," said {F}, and put the {t} into the {hands} of {H}.',
            ),
            Maybe(
                (
                    '"Is it really mine?" asked {H}. "You earned it," said {F}.',
                    "{H} held it as if it were made of eggs.",
                    "{thanks}",
                )
            ),
        ),
    ),
)

FETCH = Plot(
    2,
    ("where", "fail", "fail_too", "way"),
    (
        (
            "at the very top of the oldest oak",
            "{he} jumped, but {he} was too short",
            "{he} threw a stick, and the stick stayed up there too",
            "Let me climb on your shoulders, and I will reach it with a rake",
        ),
        (
            "at the bottom of the dry well",
            "{he} called down, but only the echo came up",
            "{he} let down a hook, but it caught nothing",
            "Let me down on a rope, and then pull me up again",
        ),
        (
            "on a tiny island in the pond",
            "{he} waded in, but the water was too deep",
            "{he} sat on a log, and the log rolled over",
            "Let us take the big wash tub and two spoons for oars",
        ),
        (
            "on the roof of the mill",
            "{he} climbed up, but {he} slid down again",
            "{he} blew as hard as {he} could, but it did not move",
            "Let us wait for the wind to turn, and hold out a blanket",
        ),
        (
            "deep under the thorn bush",
            "{he} reached in, and the thorns bit {him}",
            "{he} poked with a stick and pushed it further in",
            "Let us tie a spoon to the broom and pull it out from the back",
        ),
        (
            "behind the great grey rock",
            "{he} pushed, but the rock did not even notice",
            "{he} shouted at the rock, which did not help",
            "Let us put a long branch under the rock and lean on it",
        ),
        (
            "in the nest of a cross old goose",
            "{he} asked nicely, but the goose hissed",
            "{he} asked again, and the goose hissed louder",
            "Let us bring her warm corn, and ask while she is eating",
        ),
        (
            "inside a hollow tree",
            "{he} put an arm in, but it was not long enough",
            "{he} knocked, and woke a cross bat",
            "Let us pour in water until it floats up",
        ),
        (
            "on a ledge above the stream",
            "{he} leaned out, and nearly fell in",
            "{he} threw a pebble at it, and missed",
            "Let me hold your feet while you lie down and reach",
        ),
        (
            "under the floor of the old barn",
            "{he} pulled at a board, but it was nailed fast",
            "{he} jumped on it, which only hurt",
            "Let us crawl in from below, where the cat goes in",
        ),
        (
            "in the deepest snow on the slope",
            "{he} dug, but the snow fell back",
            "{he} stamped, and sank up to {his} chin",
            "Let us lie on a broad board, so that we do not sink",
        ),
    ),
    (
        (
            Maybe(("{weather}",)),
            (
                "There was {a_t} that belonged to nobody, but it lay {where}.",
                (
                    "Everyone knew where there was {a_t}, but it was {where}, and "
                    "nobody had ever fetched it."
                ),
                "One morning {H} saw {a_t} that nobody owned. It was {where}.",
            ),
            (
                "First {fail}. Then {fail_too}.",
                "{Fail}. After that {fail_too}.",
                "At first {fail}, and later {fail_too}.",
            ),
            Maybe(("{sigh}",)),
        ),
        (
            ("{meeting}",),
            (
                (
                    '"What are you doing?" asked {F}. "I want that {t}," said {H}, '
                    '"but I cannot reach it."'
                ),
                '"You look tired," said {F}. "It is because of the {t}," said {H}, and pointed.',
                '"Is it the {t} you want?" asked {F}. {H} nodded.',
            ),
            (
                '{F} thought for a moment. "{way}," {fhe} said.',
                '"I have an idea," said {F}. "{way}."',
                '"Alone it cannot be done," said {F}, "but there are two of us now. {way}."',
            ),
            (
                "It was not easy, and it was rather wet and funny, but it worked.",
                "They tried it, and it went wrong, and they tried it again, and it worked.",
                "So they did just that, slowly and carefully, and it worked.",
                "Nobody in {the_place} had ever seen such a thing, but it worked.",
            ),
            SETTLED,
            Maybe(("{thanks}",)),
        ),
    ),
)
