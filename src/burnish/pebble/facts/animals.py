"""Animals: class, legs, young, sound and home."""

from __future__ import annotations

from burnish.pebble.facts._table import grouped, pairs, relation
from burnish.pebble.relations import Relation

_CLASSES = grouped("""mammal: cow, horse, dog, cat, sheep, goat, pig, lion, tiger, leopard,
    cheetah, wolf, fox, deer, rabbit, hare, mouse, rat, squirrel, otter, badger, hedgehog,
    elephant, giraffe, zebra, camel, donkey, kangaroo, koala, whale, dolphin, walrus, monkey,
    gorilla, panda, hippo, rhino, moose, beaver, llama, buffalo, chimpanzee, hamster, jaguar,
    hyena; bird: robin, sparrow, eagle, owl, hen, duck, goose, swan, penguin, ostrich, parrot,
    crow, raven, pigeon, peacock, stork, pelican, flamingo, gull, woodpecker, hawk, falcon,
    blackbird, magpie, thrush, heron, cuckoo, vulture, canary, nightingale; fish: salmon, trout,
    shark, cod, herring, tuna, pike, carp, eel, goldfish, mackerel, sardine; insect: ant, bee,
    wasp, butterfly, moth, beetle, grasshopper, cricket, dragonfly, ladybird, mosquito, flea,
    cockroach, termite, locust; reptile: snake, lizard, crocodile, tortoise, alligator, gecko,
    chameleon, iguana, cobra, python; amphibian: frog, toad, newt, salamander""")

_LEGLESS = frozenset("whale dolphin walrus kangaroo monkey gorilla chimpanzee snake cobra python".split())
_LEGS = {"mammal": "four", "bird": "two", "insect": "six", "amphibian": "four", "reptile": "four"}
_MORE_LEGS = pairs("spider: eight; scorpion: eight; tarantula: eight")


_YOUNG = pairs("""cow: calf; horse: foal; dog: puppy; cat: kitten; sheep: lamb; goat: kid; pig:
    piglet; lion: cub; tiger: cub; wolf: cub; fox: cub; leopard: cub; cheetah: cub; badger: cub;
    hare: leveret; deer: fawn; elephant: calf; whale: calf; dolphin: calf; giraffe: calf; hippo:
    calf; rhino: calf; buffalo: calf; moose: calf; camel: calf; zebra: foal; donkey: foal;
    kangaroo: joey; koala: joey; duck: duckling; goose: gosling; swan: cygnet; hen: chick; owl:
    owlet; eagle: eaglet; frog: tadpole; toad: tadpole; butterfly: caterpillar; penguin: chick;
    robin: chick; sparrow: chick; stork: chick; flamingo: chick; panda: cub; llama: cria;
    jaguar: cub; beaver: kit; pigeon: squab; eel: elver; spider: spiderling""")

_SOUNDS = pairs("""cow: moos; horse: neighs; dog: barks; cat: meows; sheep: bleats; goat:
    bleats; pig: oinks; lion: roars; tiger: roars; wolf: howls; mouse: squeaks; hen: clucks;
    duck: quacks; goose: honks; owl: hoots; crow: caws; raven: croaks; pigeon: coos; frog:
    croaks; bee: buzzes; snake: hisses; donkey: brays; elephant: trumpets; sparrow: chirps;
    cricket: chirps; hyena: laughs; rooster: crows; mosquito: buzzes; dove: coos; wasp: buzzes;
    toad: croaks; cobra: hisses""")

_HOMES = pairs("""bee: hive; dog: kennel; pig: sty; horse: stable; rabbit: burrow; lion: den;
    wolf: den; fox: den; badger: sett; beaver: lodge; otter: holt; spider: web; squirrel: drey;
    eagle: eyrie; robin: nest; sparrow: nest; wasp: nest; crow: nest; stork: nest; hen: coop;
    canary: cage; swan: nest; heron: nest; thrush: nest; blackbird: nest; magpie: nest; termite:
    mound""")


def relations() -> tuple[Relation, ...]:
    """The relations about animals."""
    legs = tuple(
        (animal, _LEGS[kind]) for animal, kind in _CLASSES if kind in _LEGS and animal not in _LEGLESS
    )
    return (
        relation(
            "animal_class",
            _CLASSES,
            "the kind of animal that {an_entity} belongs to",
            """{An_entity} is a kind of {answer}.
            Every {entity} is {an_answer}.
            An animal such as the {entity} is {an_answer}.
            The {entity} is {an_answer}, as we learned at school.
            In my book the {entity} stands under the word {answer}.""",
            """Is {an_entity} a mammal, a bird, a fish, an insect, a reptile or an amphibian?
            What kind of animal is {an_entity}?
            To which class of animals does the {entity} belong?""",
        ),
        relation(
            "animal_legs",
            legs + _MORE_LEGS,
            "the number of legs of {an_entity}",
            """{An_entity} has {answer} legs.
            {Answer} legs carry {an_entity}.
            If you count the legs of {an_entity}, you get {answer}.
            On its {answer} legs the {entity} walks about.
            The {entity} stands on {answer} legs.""",
            """How many legs does {an_entity} have?
            On how many legs does {an_entity} walk?
            How many legs can you count on {an_entity}?""",
        ),
        relation(
            "animal_young",
            _YOUNG,
            "the young of {an_entity}",
            """A young {entity} is called {an_answer}.
            {An_answer} grows up to be {an_entity}.
            {An_entity} has {an_answer} as its young.
            When it is very young, {an_entity} is {an_answer}.
            The mother of {an_answer} may be {an_entity}.""",
            """What is a young {entity} called?
            What do we call the baby of {an_entity}?
            Name the young of {an_entity}.""",
            slot="{an_answer}",
        ),
        Relation(
            "animal_sound",
            _SOUNDS,
            (
                "To make its sound, {an_entity} {answer}.",
                "{An_entity} {answer} when it calls.",
                "Listen, {an_entity} calls, and that means it {answer}.",
                "It {answer}, and so I know it is {an_entity}.",
                "Every {entity} {answer} when it makes its sound.",
                "We say that {an_entity} {answer}.",
                "When it {answer}, everyone can hear the {entity}.",
            ),
            (
                "What sound does {an_entity} make?",
                "What does {an_entity} do to make its sound?",
                "Can you tell me the sound {an_entity} makes?",
                "What is the word for the sound of {an_entity}?",
                "I would like to know what {an_entity} does when it calls.",
                "sound of {an_entity}?",
                "How does {an_entity} call?",
            ),
            "To make its sound, {an_entity} {answer}.",
        ),
        relation(
            "animal_home",
            _HOMES,
            "the home of {an_entity}",
            """{An_entity} lives in {an_answer}.
            {An_answer} is where {an_entity} sleeps.
            At night {an_entity} goes back to its {answer}.
            Inside the {answer} there lives {an_entity}.
            If you find {an_answer}, {an_entity} may live there.""",
            """Where does {an_entity} live?
            What do we call the home of {an_entity}?
            Name the home of {an_entity}.""",
            slot="{an_answer}",
        ),
    )
