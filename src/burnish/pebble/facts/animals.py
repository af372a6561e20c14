"""Animals: class, legs, cover, food, young, sound, home, and names of the male and the female."""

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

_LEGLESS = frozenset(
    "whale dolphin walrus kangaroo monkey gorilla chimpanzee snake cobra python".split()
)
_LEGS = {"mammal": "four", "bird": "two", "insect": "six", "amphibian": "four", "reptile": "four"}
_MORE_LEGS = pairs("spider: eight; scorpion: eight; tarantula: eight")

_COVERS = grouped("""feathers: robin, sparrow, eagle, owl, hen, duck, goose, swan, penguin,
    ostrich, parrot, crow, raven, pigeon, peacock, stork, pelican, flamingo, gull, woodpecker,
    hawk, falcon, blackbird, magpie, thrush, heron, cuckoo, vulture, canary, nightingale; fur:
    cat, lion, tiger, leopard, wolf, fox, rabbit, hare, mouse, squirrel, otter, badger, koala,
    panda, beaver, hamster, cheetah, jaguar, monkey, kangaroo; wool: sheep; spines: hedgehog;
    scales: salmon, trout, cod, herring, carp, snake, lizard, goldfish, cobra, python, gecko,
    iguana, chameleon, sardine, pike""")

_FOODS = grouped("""grass: cow, horse, sheep, zebra, buffalo, kangaroo, donkey, hippo; meat:
    lion, tiger, leopard, cheetah, wolf, jaguar, hyena, crocodile, alligator, vulture, eagle,
    hawk; bamboo: panda; fish: otter, penguin, pelican, heron, dolphin; nuts: squirrel; mice:
    owl; nectar: bee, butterfly; leaves: koala, giraffe, caterpillar, iguana; wood: termite;
    insects: frog, toad, gecko, chameleon, spider; blood: flea""")

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

_FEMALES = pairs("""sheep: ewe; horse: mare; lion: lioness; tiger: tigress; fox: vixen; deer:
    doe; rabbit: doe; pig: sow; peacock: peahen; leopard: leopardess; swan: pen; donkey: jenny""")

_MALES = pairs("""sheep: ram; horse: stallion; pig: boar; duck: drake; goose: gander; deer:
    stag; swan: cob; donkey: jack; rabbit: buck; cat: tom; elephant: bull; whale: bull; bee:
    drone; moose: bull""")


def relations() -> tuple[Relation, ...]:
    """The relations about animals."""
    legs = tuple(
        (animal, _LEGS[kind])
        for animal, kind in _CLASSES
        if kind in _LEGS and animal not in _LEGLESS
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
            "animal_cover",
            _COVERS,
            "the cover of the body of {an_entity}",
            """The body of {an_entity} is covered with {answer}.
            With its {answer} all over it, the {entity} keeps safe.
            On its skin {an_entity} has {answer}.
            Look at {an_entity} and you will see {answer}.""",
            """What covers the body of {an_entity}?
            What does {an_entity} have on its skin?
            With what is {an_entity} covered?""",
            answer_first="With {answer} on its body goes {an_entity}.",
        ),
        relation(
            "animal_food",
            _FOODS,
            "the main food of {an_entity}",
            """{An_entity} eats {answer}.
            Give some {answer} to {an_entity} and it will eat.
            When it is hungry, {an_entity} looks for {answer}.
            The {entity} lives on {answer}.
            With {answer} the {entity} fills its belly.""",
            """What does {an_entity} eat?
            What does the {entity} live on?
            When it is hungry, what does {an_entity} look for?""",
            answer_first="With {answer} in its mouth {an_entity} is happy.",
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
        relation(
            "animal_female",
            _FEMALES,
            "the word for a female {entity}",
            """A female {entity} is known by the word {answer}.
            {Answer} means a female {entity}.
            For a female {entity} the farmer says {answer}.
            We use the word {answer} for a female {entity}.
            When {an_entity} is female, the word is {answer}.""",
            """What is a female {entity} called?
            What do you call the female of the {entity}?
            Name the female of the {entity}.""",
        ),
        relation(
            "animal_male",
            _MALES,
            "the word for a male {entity}",
            """A male {entity} is known by the word {answer}.
            {Answer} means a male {entity}.
            For a male {entity} the farmer says {answer}.
            We use the word {answer} for a male {entity}.
            When {an_entity} is male, the word is {answer}.""",
            """What is a male {entity} called?
            What do you call the male of the {entity}?
            Name the male of the {entity}.""",
        ),
    )
