"""Things a hero can want, with why and what then.

In the phrases `{H}` is the hero's name, `{he}` `{him}` `{his}` the pronouns, `{the_place}` the
setting. Every phrase of `then` holds the want's own word, so that an ending can be checked.
"""

from __future__ import annotations

from typing import NamedTuple


class Want(NamedTuple):
    """`word` is the one word that names it ("lantern"); why and then are phrases to choose
    from; `not_by` are plots that would make no sense.
    """

    word: str
    why: tuple[str, ...]
    then: tuple[str, ...]
    not_by: tuple[str, ...] = ()


def _thing(
    word: str, why: str, why_too: str, then: str, then_too: str, not_by: tuple[str, ...] = ()
) -> Want:
    return Want(word, (why, why_too), (then, then_too), not_by)


BIG = ("fetch", "found")
"""Plots for what is small enough to lie in a nest: not for these."""

GROWN = (*BIG, "make")
EATEN = (*BIG, "share")


THINGS: tuple[Want, ...] = (
    _thing(
        "lantern",
        "the path to {his} door was dark at night",
        "{he} liked to read in bed",
        "That night the lantern shone over the path, and nobody stubbed a toe.",
        "Every evening {H} lit the lantern and read until the moths fell asleep.",
    ),
    _thing(
        "kite",
        "the wind was so good on the hill",
        "{he} wanted to write a word on the sky",
        "The kite climbed so high that it came back with a little cloud on its tail.",
        "On every windy day {H} ran up the hill, and the kite danced above {the_place}.",
    ),
    _thing(
        "drum",
        "{the_place} was much too quiet",
        "{his} feet were always tapping anyway",
        "{H} played the drum so well that even the hens marched in a row.",
        "On feast days {H} beat the drum, and all of {the_place} danced.",
    ),
    _thing(
        "boat",
        "{he} longed to see the other shore",
        "{he} was tired of wet feet",
        "The boat floated like a leaf, and {H} rowed until the stars came out.",
        "After that {H} took anybody who asked across the water in the boat.",
        BIG,
    ),
    _thing(
        "scarf",
        "the winter was coming",
        "{his} neck was always cold",
        "When the snow came, {H} wore the scarf, and it was long enough for two.",
        "The scarf was warm and red, and {H} wore it even in the bath.",
    ),
    _thing(
        "bell",
        "nobody ever heard {him} knock",
        "{he} wished to call {his} friends to supper",
        "When {H} rang the bell, friends came from all over {the_place} for supper.",
        "{H} hung the bell over the door, and it rang whenever somebody came.",
    ),
    _thing(
        "map",
        "{he} got lost on the way to the well",
        "{he} wanted to know what lay beyond",
        "{H} spread out the map, and for once {he} knew exactly where {he} was.",
        "With the map in {his} {hands}, {H} found the way home, and a shorter one too.",
    ),
    _thing(
        "teapot",
        "{he} had cups but nothing to pour from",
        "visitors always asked for tea",
        "{H} filled the teapot at once, and there was tea for everyone.",
        "The teapot stood on the table every afternoon, and it was never lonely.",
    ),
    _thing(
        "ladder",
        "the best apples grew at the top",
        "the roof had a hole in it",
        "{H} climbed the ladder and picked the highest apple of all.",
        "The ladder stood against the roof, and by evening the hole was gone.",
        BIG,
    ),
    _thing(
        "wheelbarrow",
        "{his} pumpkins were too heavy to carry",
        "{his} back was sore",
        "{H} pushed the wheelbarrow home with two pumpkins and one sleepy friend in it.",
        "The wheelbarrow squeaked all the way through {the_place}, and {H} sang along.",
        BIG,
    ),
    _thing(
        "umbrella",
        "it rained whenever {he} went out",
        "{his} hat had shrunk in the rain",
        "When the rain came back, {H} opened the umbrella, and there was room for three.",
        "{H} was so proud of the umbrella that {he} began to hope for rain.",
    ),
    _thing(
        "fiddle",
        "there was music in {his} head",
        "the dances had no music",
        "{H} played the fiddle under the stars, and the owls kept time.",
        "When {H} played the fiddle, even the oldest feet in {the_place} began to dance.",
    ),
    _thing(
        "telescope",
        "{he} wished to visit the moon with {his} eyes",
        "the stars were so far",
        "Through the telescope {H} saw the moon, and was sure that it winked.",
        "{H} set up the telescope, and everyone in {the_place} had a turn.",
    ),
    _thing(
        "quilt",
        "{his} bed was cold",
        "{his} dreams were chilly",
        "That night {H} slept under the quilt, and did not wake until noon.",
        "The quilt had a hundred patches, and under it {H} dreamed a hundred dreams.",
    ),
    _thing(
        "hat",
        "the sun was in {his} eyes",
        "{his} ears were cold",
        "{H} wore the hat to breakfast, to market and to bed.",
        "The hat was a little too big, so {H} kept a sandwich under it.",
    ),
    _thing(
        "spade",
        "there was a garden to dig",
        "the ground was as hard as a biscuit",
        "With the spade {H} dug a garden, and by summer there were beans.",
        "{H} dug with the spade all day, and slept like a potato all night.",
    ),
    _thing(
        "basket",
        "{his} berries kept falling on the road",
        "{he} had too few {hands}",
        "{H} filled the basket with berries and did not lose a single one.",
        "The basket came home full every evening, and {H} shared whatever was in it.",
    ),
    _thing(
        "clock",
        "{he} was late for everything",
        "{he} never knew when it was supper",
        "The clock ticked on the wall, and {H} was never late for supper again.",
        "{H} wound the clock each evening, and it thanked {him} with a tick.",
        BIG,
    ),
    _thing(
        "mirror",
        "{he} had never seen {his} own face",
        "{he} wanted to see {his} smile",
        "{H} looked into the mirror, and a happy face looked back.",
        "{H} hung the mirror by the window, and now there were two sunsets.",
        BIG,
    ),
    _thing(
        "sled",
        "the hill was white and steep",
        "walking down was so slow",
        "The sled flew down the hill, and {H} shouted all the way.",
        "All winter long {H} and the sled were the fastest thing in {the_place}.",
        BIG,
    ),
    _thing(
        "compass",
        "{he} always turned left by mistake",
        "{he} wished to travel far",
        "{H} followed the compass north, then followed it home for supper.",
        "The needle of the compass trembled a little, and {H} felt that it was glad.",
    ),
    _thing(
        "whistle",
        "{his} voice was too small",
        "{he} wished to call the sheep",
        "{H} blew the whistle once, and the whole of {the_place} looked up.",
        "{H} wore the whistle on a string, and nobody ever overlooked {him} again.",
    ),
    _thing(
        "book",
        "the evenings were so long",
        "{he} had read {his} only page a hundred times",
        "{H} read the book aloud by the fire, and everyone came to listen.",
        "{H} read the book to the end, smiled, and began again at the beginning.",
    ),
    _thing(
        "blanket",
        "the nights had turned cold",
        "{his} bedroom was draughty",
        "Under the blanket {H} was as warm as toast.",
        "The blanket was big enough for {H}, and for a friend, and for the moon to look on.",
    ),
    _thing(
        "rope",
        "{his} swing had broken",
        "the bucket had fallen into the well",
        "{H} tied the rope to the oak, and there was a swing again.",
        "The rope held, and all summer {H} swung up to the leaves and back.",
    ),
    _thing(
        "candle",
        "{he} did not care for the dark",
        "{his} birthday was on Sunday",
        "The candle burned all evening, and the dark stayed politely outside.",
        "{H} lit the candle, made a wish, and would not tell anybody what it was.",
    ),
    _thing(
        "chair",
        "{he} had only a stump to sit on",
        "{his} legs were tired",
        "{H} put the chair by the window and sat in it as still as a king.",
        "The chair creaked when {H} sat down, and {he} called it a song.",
        BIG,
    ),
    _thing(
        "violet",
        "{his} window was bare",
        "{he} loved the colour of evening",
        "The violet stood on the window sill, and {H} wished it good morning every day.",
        "In spring the violet bloomed, and all of {the_place} came to smell it.",
        ("make",),
    ),
    _thing(
        "key",
        "{his} little box would not open",
        "{his} garden gate was locked",
        "The key turned with a click, and {H} laughed out loud.",
        "{H} kept the key on a ribbon, and never locked anybody out with it.",
    ),
    _thing(
        "cake",
        "it was {his} birthday",
        "{he} had promised one to {his} friends",
        "The cake was cut into many pieces, and {H} took the smallest.",
        "{H} shared the cake with everybody, and even the ants got crumbs.",
        EATEN,
    ),
    _thing(
        "flute",
        "the birds had all the songs",
        "{he} wished to answer the wind",
        "{H} played the flute at dawn, and the birds listened for once.",
        "The flute sang softly over {the_place}, and babies fell asleep by it.",
    ),
    _thing(
        "coat",
        "the wind went right through {him}",
        "{his} old one was full of holes",
        "The coat had nine pockets, and {H} found something to put in each.",
        "{H} buttoned up the coat and went out to tell the wind what {he} thought of it.",
    ),
    _thing(
        "stove",
        "{his} soup was always cold",
        "{his} kitchen was freezing",
        "Soon the stove was glowing, and {H} cooked soup for everyone.",
        "The stove purred like a cat, and {H} toasted bread on it.",
        BIG,
    ),
    _thing(
        "pumpkin",
        "the autumn fair was near",
        "{he} loved soup more than anything",
        "The pumpkin was so big that {H} could have lived in it.",
        "Everyone ate soup from the pumpkin, and {H} had three bowls.",
        GROWN,
    ),
    _thing(
        "star",
        "the sky had so many",
        "{he} wished to give one to {his} mother",
        "The star stood in {his} window, small and silver, and {H} slept beneath it.",
        "It was only a star of tin, but {H} saw it shine, and so did everyone else.",
    ),
)
