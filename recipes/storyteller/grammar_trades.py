"""How a hero comes by a thing among others: swapped, given, lost and found, shared.

Phrase tables only, in the form that grammar_plots says.
"""

from __future__ import annotations

from recipes.storyteller.grammar_frame import Maybe
from recipes.storyteller.grammar_plots import Plot

SWAP = Plot(
    3,
    ("first", "second", "need"),
    (
        ("a jar of honey", "a sack of flour", "my bread is plain"),
        ("a bag of feathers", "a jar of jam", "my pillow is flat"),
        ("a ball of wool", "a round cheese", "my socks are thin"),
        ("a pot of glue", "a wooden spoon", "my stool has lost a leg"),
        ("a bunch of herbs", "a bowl of eggs", "my soup tastes of nothing"),
        ("a piece of soap", "a basket of mushrooms", "my hands are never clean"),
        ("a bar of chocolate", "a sack of potatoes", "my tea is so bitter"),
        ("a straw hat", "a jug of milk", "the sun burns my head"),
        ("a bunch of carrots", "a ball of string", "my donkey will not move"),
        ("a box of seeds", "a bottle of ink", "my garden is bare"),
    ),
    (
        (
            Maybe(("{weather}",)),
            (
                "{A_friend} had {a_t} to give away, but not for nothing.",
                "The only {t} in {the_place} belonged to {a_friend}.",
            ),
            (
                '"I will swap the {t} for {second}," said {F}.',
                '"Bring me {second}," said {F}, "and we will swap."',
                '{F} scratched {fhis} chin. "For {second} you can have the {t}," {fhe} said.',
            ),
            (
                "{H} had no such thing, but {a_third} did.",
                "{H} did not have that, so {he} went to {a_third}.",
                "Where could {H} get that? {He} asked {a_third}.",
            ),
            (
                '"You may have {second}," said {G}, "but I need {first}, because {need}."',
                '"Gladly," said {G}, "if you bring me {first}. You see, {need}."',
            ),
        ),
        (
            (
                "So {H} went home, looked in every corner, and found {first} under the stairs.",
                "{H} searched the whole day and came home with {first}.",
                "Now {first} was the one thing {H} did have.",
            ),
            (
                "{G} was delighted, and {H} ran back to {F}.",
                "{G} gave {him} {second}, and {F} was waiting at the gate.",
                (
                    '"Just what I needed!" cried {G}, and {H} hurried to {F} before '
                    "anybody could change their mind."
                ),
            ),
            (
                '"A swap is a swap," said {F}, and handed over the {t}.',
                "Then {F} gave {H} the {t}, and everybody had what they needed.",
                '"You were quick," said {F}, and the {t} was {hers}.',
            ),
            Maybe(
                (
                    '"Three happy people," said {H}, "and nobody paid a penny."',
                    "All three of them thought they had made the best bargain.",
                )
            ),
        ),
    ),
)

GIFT = Plot(
    2,
    ("trouble", "help"),
    (
        ("{fhis} roof had blown away", "buy new tiles"),
        ("{fhis} cart had lost a wheel", "buy a new wheel"),
        ("{fhis} winter store had been washed away", "buy corn for the winter"),
        ("{fhis} boots were worn through", "buy good boots"),
        ("{fhis} baby brother was ill", "send for the doctor"),
        ("{fhis} window was broken and the wind came in", "buy new glass"),
        ("{fhis} only cow had run away", "find another cow"),
        ("{fhis} boat had a hole in it", "mend the boat"),
        ("{fhis} fiddle had lost all its strings", "buy new strings"),
        ("{fhis} oven had cracked", "mend the oven"),
    ),
    (
        (
            (
                "{H} saved every coin in a jar, and counted them each night.",
                "For a whole year {H} put coins into an old boot.",
                "{H} sold nuts at the gate until there was enough money in {his} purse.",
            ),
            (
                "At last there was enough for {a_t}, and {he} set off to buy it.",
                "One morning there was enough for {a_t}, and {H} ran out of the door.",
            ),
            Maybe(("{weather}",)),
            (
                "But on the way {he} met {a_friend}, who was weeping because {trouble}.",
                "But beside the road sat {a_friend}, very sad, because {trouble}.",
            ),
            (
                '"What will you do now?" asked {H}. "I do not know," said {F}.',
                '"Do not cry," said {H}, but {F} could not stop.',
            ),
        ),
        (
            (
                "{H} looked at {his} coins, and then at {F}.",
                "{H} thought of the {t}. Then {he} thought of {F}.",
                "It was a hard choice, but not a long one.",
            ),
            (
                '"Take this," said {H}, and gave {F} all the coins to {help}.',
                "{H} gave {F} the money to {help}, and went home without {a_t}.",
                '"You need it more than I do," said {H}. "Go and {help}."',
            ),
            (
                (
                    "A month went by. Then there was a knock at the door, and there "
                    "stood {F} with {a_t}."
                ),
                (
                    "Some weeks later {F} came back, and {fhe} was hiding something "
                    "behind {fhis} back. It was {a_t}."
                ),
                (
                    "When the moon was full again, a parcel lay on the step. It was "
                    "{a_t}, and it was from {F}."
                ),
            ),
            (
                '"I made it for you," said {F}, "because you helped me."',
                '"Now it is my turn to help," said {F}.',
                '"One kindness for another," said {F}, and {fhe} blushed.',
            ),
            Maybe(
                (
                    "{H} did not know what to say, so {he} gave {F} a hug.",
                    "For the first time in {his} life {H} could not find a word.",
                )
            ),
        ),
    ),
)

FOUND = Plot(
    2,
    ("lost", "trail", "use"),
    (
        (
            "the storm took it in the night",
            "There were leaves all pointing the same way",
            "it had blown right into my kitchen",
        ),
        (
            "the stream carried it off",
            "The wet grass was bent along the bank",
            "it came floating past my door",
        ),
        (
            "it fell off the cart on the way home",
            "There were the marks of wheels in the mud",
            "it lay in the road and looked lonely",
        ),
        (
            "a magpie flew off with it",
            "There was a black feather on the path",
            "the bird dropped it on my hat",
        ),
        (
            "it rolled down the hill",
            "There was a long flat line in the grass",
            "it stopped right at my feet",
        ),
        (
            "the tide came in and took it",
            "There was a line of wet sand and shells",
            "the waves laid it on my step",
        ),
        (
            "a goat walked off with it",
            "There were bites in every bush along the way",
            "a goat came by and wanted to swap it for my lunch",
        ),
        (
            "somebody took it by mistake",
            "There was a strange footprint at the gate",
            "I thought it was my own",
        ),
    ),
    (
        (
            (
                "In the end {he} bought {a_t} with {his} last coin, but {lost}.",
                "{His} aunt sent {him} {a_t} for {his} birthday, but that very day {lost}.",
                "{H} got {a_t} at the fair, and was happy for one hour. Then {lost}.",
            ),
            Maybe(("{sigh}",)),
            (
                '"I will find it," said {H}, and began to search.',
                "{H} put on {his} boots and went to look for it.",
                "There was no time to be sad. {H} went to look for it.",
            ),
            Maybe(("{weather}",)),
            ("{trail}, and {H} followed.", '{trail}. "Aha," said {H}, and went that way.'),
        ),
        (
            (
                "The trail ended at the house of {a_friend}.",
                "At the end of the trail stood {a_friend}, and looked puzzled.",
                "There {he} met {a_friend}, who was holding the very thing.",
            ),
            (
                '"Is that my {t}?" asked {H}. "It may be," said {F}, "for {use}."',
                (
                    '"I think you have my {t}," said {H}. "Then it is yours?" asked '
                    '{F}. "You see, {use}."'
                ),
            ),
            (
                "{F} gave it back at once, though a little sadly, for {fhe} had grown fond of it.",
                "{F} held it out, but {fhis} eyes were wet, for {fhe} had never had {a_t}.",
            ),
            (
                '"We could share it," said {H}.',
                '{H} saw this, and thought for a moment. "Let us share it," {he} said.',
                '"Come with me," said {H}. "It is better with two."',
            ),
            (
                "So the {t} came home, and {F} came along.",
                "{F} beamed, and together they carried the {t} home.",
            ),
        ),
    ),
)

SHARE = Plot(
    2,
    ("event", "rule"),
    (
        (
            "it began to pour, and they had to hide under the same cart",
            "one shall have it on dry days, the other on wet days",
        ),
        (
            "the lamp went out, and they both were a little afraid",
            "one shall have it by day, the other by night",
        ),
        (
            "they both slipped and landed in the same puddle",
            "one shall have it one week, the other the next",
        ),
        (
            "a bell rang for supper, and both their bellies rumbled",
            "one shall keep it, and both shall use it",
        ),
        (
            "a baby hedgehog walked by and laughed at them",
            "we shall both have it, and the little ones too",
        ),
        (
            "a goose stole the hat of the shopkeeper, and both had to laugh",
            "one shall have it in summer, the other in winter",
        ),
        (
            "they grew so hungry that they had to stop",
            "one shall have it before lunch, the other after lunch",
        ),
        (
            "they noticed that everyone was staring",
            "it shall live in the middle, between our two doors",
        ),
    ),
    (
        (
            Maybe(("{weather}",)),
            (
                (
                    "There was one {t} left at the market, and {H} took hold of it. "
                    "But so did {a_friend}."
                ),
                (
                    "The shop had only one {t}. {H} took it by one end, and "
                    "{a_friend} took it by the other."
                ),
            ),
            (
                '"I saw it first," said {H}. "I touched it first," said {F}.',
                '"It is mine," said {F}. "It is not," said {H}.',
                '"Let go," said {H}. "You let go," said {F}.',
            ),
            Maybe(
                (
                    "They pulled, and they grumbled, and neither of them looked very clever.",
                    "They pulled it this way and that way, all across {the_place}.",
                )
            ),
            ("Then {event}.", "But while they quarrelled, {event}."),
        ),
        (
            (
                "It is hard to quarrel with somebody like that, and {H} began to giggle.",
                "{H} looked at {F}, and {F} looked at {H}, and both felt foolish.",
            ),
            (
                '"Why do you want it?" asked {H}. "For the same reason as you," said {F}.',
                '"I am sorry," said {H}. "So am I," said {F}.',
                '"This is silly," said {F}, and {H} had to agree.',
            ),
            (
                '"I know," said {H}, "{rule}."',
                '"What if we do it like this?" said {F}. "We say: {rule}."',
                '"Then {rule}," said {H}, and {F} shook {his} {hand} on it.',
            ),
            (
                "They paid for the {t} together, half and half.",
                "So the {t} was bought with two purses and carried by two friends.",
                "And that was how one {t} came to have two owners.",
            ),
        ),
    ),
)
