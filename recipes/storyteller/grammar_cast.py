"""Who can be in a story, where it can be set and what the sky does: phrase tables only."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """What a character is, what it holds things with, and its pronoun where only one fits."""

    noun: str
    hands: str
    only: str = ""


PAWED = (
    "badger", "hedgehog", "fox", "mouse", "hare", "otter", "mole", "squirrel", "bear", "beaver",
    "rabbit", "cat", "dog", "dormouse", "weasel", "wolf", "lynx", "panda", "hamster", "lion",
    "tiger", "raccoon", "marten", "monkey",
)  # fmt: skip
WINGED = (
    "owl", "crow", "heron", "wren", "robin", "duck", "goose", "penguin", "magpie", "swallow",
)  # fmt: skip
HANDED = (
    "baker", "tailor", "cobbler", "weaver", "potter", "miller", "gardener", "fisher", "carpenter",
    "clockmaker", "shepherd", "beekeeper", "painter", "sailor", "knight", "gnome", "giant", "robot",
    "troll", "elf", "fairy", "farmer", "child",
)  # fmt: skip
KINDS: tuple[Kind, ...] = (
    *(Kind(noun, "paws") for noun in PAWED),
    *(Kind(noun, "wings") for noun in WINGED),
    *(Kind(noun, "hands") for noun in HANDED),
    Kind("dragon", "claws"),
    Kind("goat", "hooves"),
    Kind("pony", "hooves"),
    Kind("girl", "hands", "she"),
    Kind("boy", "hands", "he"),
    Kind("princess", "hands", "she"),
    Kind("prince", "hands", "he"),
    Kind("witch", "hands", "she"),
    Kind("wizard", "hands", "he"),
)

TRAITS: tuple[str, ...] = (
    "small", "young", "curious", "shy", "cheerful", "patient", "stubborn", "sleepy", "brave",
    "clever", "quiet", "busy", "gentle", "hungry", "hopeful", "careful", "restless", "merry",
    "thoughtful", "clumsy", "kind", "bold", "tidy", "untidy", "dreamy", "honest", "nosy", "lonely",
)  # fmt: skip

HABITS: tuple[str, ...] = (
    "{H} counted everything: steps, spoons, even clouds.",
    "{H} hummed while {he} worked, and nobody had ever heard {him} hum the same tune twice.",
    "{H} was always the first to wake and the last to finish breakfast.",
    "Everybody knew {H}, because {he} waved at everybody, even at the scarecrow.",
    "{H} kept a button in {his} pocket for luck, and now and then it worked.",
    "{H} liked rainy mornings, warm bread and long questions.",
    "{H} asked so many questions that even the clock seemed to tick more slowly to listen.",
    "{H} talked to the snails on the wall, and was quite sure that they listened.",
    "{H} could whistle two notes, and was very proud of the second one.",
    "{H} never hurried, except when there was soup.",
    "{H} had a great many plans and a very small notebook.",
    "{H} was afraid of only two things: thunder and cold porridge.",
    "{H} collected round stones, and had names for nearly all of them.",
    "{H} could not tell left from right, but was never lost for long.",
    "{H} said good morning to the sun, even when it was hiding.",
    "{H} laughed easily, and sneezed even more easily.",
    "{H} had one grey sock and one green sock, and liked them equally.",
    "{H} could sleep anywhere, and once slept in a flower pot.",
    "{H} believed that every day ought to have a little cake in it.",
    "{H} wrote long letters to {his} aunt, who wrote short ones back.",
)


class Place(NamedTuple):
    """A setting: how it is met first ("in a village by the sea"), and its name afterwards."""

    first: str
    later: str


PLACES: tuple[Place, ...] = (
    Place("in a village by the sea", "village"),
    Place("in a village between two hills", "village"),
    Place("in a village where every door was blue", "village"),
    Place("at the edge of a deep forest", "forest"),
    Place("in a forest of old oaks", "forest"),
    Place("in a forest where it smelled of mushrooms", "forest"),
    Place("in a valley full of apple trees", "valley"),
    Place("in a green valley that the road had forgotten", "valley"),
    Place("in a valley with a noisy stream", "valley"),
    Place("in a harbour full of little boats", "harbour"),
    Place("in a harbour where the gulls never slept", "harbour"),
    Place("on an island with one tree", "island"),
    Place("on an island that was shaped like a bean", "island"),
    Place("in a town with crooked chimneys", "town"),
    Place("in a small town with a large clock", "town"),
    Place("in a town where it rained on Tuesdays", "town"),
    Place("on a farm at the end of a long lane", "farm"),
    Place("on a farm with seven hens", "farm"),
    Place("beside a lake as round as a plate", "lake"),
    Place("beside a lake where the mist came to drink", "lake"),
    Place("on a mountain with snow on its shoulders", "mountain"),
    Place("high on a mountain, just below the clouds", "mountain"),
    Place("in a meadow that hummed with bees", "meadow"),
    Place("in a meadow behind the old mill", "meadow"),
    Place("in a castle with more stairs than rooms", "castle"),
    Place("in a castle with a leaking roof", "castle"),
)

WEATHER: tuple[str, ...] = (
    "It was a windy morning, and the leaves ran down the lane like children.",
    "It was a bright morning, and even the puddles looked pleased.",
    "Rain was drumming on the roofs that day.",
    "The sun had just come up, pale and yellow like butter.",
    "A soft fog lay over {the_place}, and every sound came from nowhere.",
    "The first snow had fallen in the night, and {the_place} was very quiet.",
    "It was so hot that day that the shadows stayed indoors.",
    "Grey clouds sat over {the_place} like hens on their eggs.",
    "The evening was warm, and the crickets were tuning their fiddles.",
    "There was frost on the grass, and every step crunched.",
    "A cool wind was blowing, and it smelled of rain.",
    "It was one of those spring days on which everything drips and shines.",
    "The moon was up early, thin as a slice of cheese.",
    "It had rained all night, and the whole of {the_place} smelled of wet earth.",
    "The wind was pulling at the washing on all the lines.",
    "It was a still grey day, the kind on which one hears a leaf fall.",
    "The sky was as blue as a plate, with one small cloud for decoration.",
    "Somewhere a cuckoo was calling, and it never got tired.",
)

SIGHS: tuple[str, ...] = (
    "{H} sat down on a stone and sighed.",
    "{H} did not cry, but it was a near thing.",
    "{H} kicked a pebble, and the pebble went further than {he} had.",
    "For a while {H} only looked at {his} own {hands}.",
    '"Oh, bother," said {H}.',
    '"That did not go well," said {H} to nobody.',
    '"Well," said {H} at last, "now I know how not to do it."',
    "{H} felt as small as a crumb.",
    "{H} thought about giving up, and then thought about it again.",
    "It was very quiet, and {H} could hear {his} own heart.",
    "{H} took three deep breaths, as one should.",
    "{H} blew {his} nose and looked at the sky.",
    '"Nobody saw that, I hope," said {H}.',
    '"There must be another way," said {H}, and scratched {his} head.',
    "{H} ate a biscuit, because that sometimes helps.",
    "{H} would have liked to blame somebody, but there was nobody there.",
)

MEETINGS: tuple[str, ...] = (
    "Just then {a_friend} came along the path.",
    "That was when {a_friend} looked over the wall.",
    "Not far away sat {a_friend}, peeling an apple.",
    "Now {a_friend} had been watching for some time.",
    "At that moment {a_friend} came round the corner with a basket of pears.",
    "{A_friend} happened to be passing, and stopped.",
    "Before long {a_friend} came by to ask what all the noise was about.",
    "As luck would have it, {a_friend} was sitting on the gate.",
    "Behind the hedge somebody coughed. It was {a_friend}.",
    "A little later {a_friend} came down the road, pushing a bicycle.",
    "Up in the window sat {a_friend}, who had seen it all.",
    "Then a shadow fell on the grass, and it belonged to {a_friend}.",
    "Under the nearest tree {a_friend} was taking a nap, and woke up.",
)
