"""Things around the house: kinds, colours, trades, tools, instruments, shapes."""

from __future__ import annotations

from burnish.pebble.facts._table import grouped, pairs, relation
from burnish.pebble.relations import Relation

_KINDS = grouped("""fruit: apple, pear, banana, cherry, plum, peach, apricot, lemon, grape,
    strawberry, raspberry, mango, melon, pineapple, blueberry; vegetable: carrot, potato, onion,
    cabbage, turnip, leek, parsnip, cauliflower, radish, lettuce, beetroot; flower: tulip,
    daisy, daffodil, buttercup, violet, snowdrop, poppy, lily, dandelion, primrose, bluebell,
    carnation; tree: oak, elm, willow, birch, maple, poplar, larch, cedar; tool: hammer, spade,
    screwdriver, rake, chisel, shovel, wrench, pickaxe; weapon: sword, spear, dagger, cannon,
    pistol, rifle; vehicle: car, lorry, bicycle, tram, taxi, motorcycle, van; boat: ferry,
    yacht, canoe, dinghy, gondola; musical instrument: violin, flute, trumpet, guitar, cello,
    harp, clarinet, trombone, oboe, banjo, bassoon, tuba, piccolo, bugle, viola, cymbal,
    xylophone, tambourine, mandolin, double bass; piece of furniture: sofa, wardrobe, bookcase,
    armchair, stool, cupboard, sideboard; garment: shirt, skirt, jacket, coat, jumper, blouse,
    sweater; jewel: diamond, ruby, emerald, sapphire""")
_FRUIT_COLOURS = grouped("""yellow: banana, lemon, buttercup, daffodil, dandelion, canary;
    orange: carrot, apricot, pumpkin; red: strawberry, raspberry, tomato, ruby, poppy, ladybird;
    green: cucumber, lettuce, pea, emerald; blue: sapphire, blueberry; black: raven, blackberry,
    crow; pink: flamingo, pig; purple: aubergine, beetroot, violet; white: swan, snowdrop, polar
    bear; grey: elephant, hippo""")

_WORKPLACES = pairs("""baker: bakery; teacher: school; farmer: farm; cook: kitchen; sailor:
    ship; miner: mine; judge: court; librarian: library; nurse: hospital; gardener: garden;
    actor: theatre; waiter: restaurant; scientist: laboratory; astronaut: spaceship; miller:
    mill; monk: monastery; blacksmith: forge; clown: circus; pilot: cockpit; banker: bank;
    priest: church; brewer: brewery; professor: university; zookeeper: zoo; chemist: pharmacy;
    potter: pottery; surgeon: hospital; butler: mansion; barman: pub; postmaster: post office;
    stationmaster: station""")
_WORK = pairs("""baker: bread; tailor: clothes; shoemaker: shoes; potter: pots; brewer: beer;
    carpenter: furniture; poet: poems; painter: paintings; miller: flour; jeweller: rings;
    hatter: hats; weaver: cloth; composer: music; novelist: novels; sculptor: statues;
    blacksmith: horseshoes; winemaker: wine; cooper: barrels; clockmaker: clocks; bookbinder:
    books; thatcher: roofs; cheesemaker: cheese; glazier: windows; basketmaker: baskets;
    saddler: saddles""")

_TOOLS = pairs("""hammer: hitting nails; spade: digging; broom: sweeping; needle: sewing;
    pencil: writing; telescope: looking at stars; kettle: boiling water; comb: combing hair;
    umbrella: keeping off rain; thermometer: measuring temperature; axe: chopping wood; oven:
    baking; shovel: digging; screwdriver: turning screws; ruler: measuring length; clock:
    telling time; fridge: keeping food cold; razor: shaving; towel: drying; toothbrush: cleaning
    teeth; corkscrew: opening bottles; microscope: seeing tiny things; compass: finding north;
    lamp: giving light; camera: taking photographs; pan: frying; rake: gathering leaves; oar:
    rowing; crayon: colouring; eraser: rubbing out; calculator: doing sums; parachute: falling
    safely; candle: giving light; pillow: resting the head""")
_FAMILIES = grouped("""string: violin, guitar, cello, harp, banjo, viola, mandolin, double bass,
    lute; brass: trumpet, trombone, tuba, bugle, cornet, French horn; woodwind: flute, clarinet,
    oboe, bassoon, piccolo, saxophone; percussion: drum, cymbal, xylophone, tambourine, gong,
    kettledrum""")
_SIDES = pairs("""triangle: three; square: four; rectangle: four; pentagon: five; hexagon: six;
    heptagon: seven; octagon: eight; nonagon: nine; decagon: ten; rhombus: four; dodecagon:
    twelve; parallelogram: four""")


def relations() -> tuple[Relation, ...]:
    """The relations about things."""
    return (
        relation(
            "kind",
            _KINDS,
            "the sort of thing we call {an_entity}",
            """{An_entity} is a kind of {answer}.
            Every {entity} is {an_answer}.
            A thing such as {an_entity} is {an_answer}.
            If it is {an_entity}, then it is {an_answer}.
            In the picture book {an_entity} is shown as {an_answer}.""",
            """What kind of thing is {an_entity}?
            What is {an_entity}, what kind of thing?
            Which word tells us what {an_entity} is?""",
            answer_first="{An_answer} is what {an_entity} is.",
            slot="{an_answer}",
        ),
        relation(
            "thing_colour",
            _FRUIT_COLOURS,
            "the colour of {an_entity}",
            """{An_entity} looks {answer}.
            {Answer} is the paint I need for {an_entity}.
            When I paint {an_entity}, I make it {answer}.
            In a picture {an_entity} is mostly {answer}.
            Everyone knows that {an_entity} is {answer}.""",
            """What colour is {an_entity}?
            Which colour does {an_entity} have?
            What paint do I need to paint {an_entity}?""",
        ),
        relation(
            "workplace",
            _WORKPLACES,
            "the place where {an_entity} works",
            """{An_entity} works in {an_answer}.
            In {an_answer} you will meet {an_entity}.
            Every morning the {entity} goes to the {answer}.
            The {answer} is where the {entity} works.
            If you look for {an_entity}, go to {an_answer}.""",
            """Where does {an_entity} work?
            Where can I find {an_entity} at work?
            In what place does the {entity} spend the day?""",
            slot="the {answer}",
        ),
        relation(
            "maker",
            _WORK,
            "the thing made by {an_entity}",
            """{An_entity} makes {answer}.
            To get {answer}, go to {an_entity}.
            All day long the {entity} makes {answer}.
            If you want {answer}, you need {an_entity}.
            For {answer} we thank the {entity}.""",
            """What does {an_entity} make?
            What comes from the hands of {an_entity}?
            What can I get from {an_entity}?""",
            answer_first="{Answer} can be made by {an_entity}.",
        ),
        relation(
            "tool_use",
            _TOOLS,
            "the use of {an_entity}",
            """{An_entity} is used for {answer}.
            For {answer} we take {an_entity}.
            Nothing is better than {an_entity} for {answer}.
            If you need {an_entity}, it is for {answer}.
            We have {an_entity} at home for {answer}.""",
            """What is {an_entity} used for?
            What do we use {an_entity} for?
            For what do people need {an_entity}?""",
        ),
        relation(
            "instrument_family",
            _FAMILIES,
            "the family of the {entity} among instruments",
            """The {entity} is one of the {answer} instruments.
            To the {answer} instruments belongs the {entity}.
            {Answer} instruments play together, and the {entity} is one of them.
            Among the {answer} instruments there is the {entity}.
            She plays the {entity} in the {answer} group.""",
            """Is the {entity} a string, brass, woodwind or percussion instrument?
            To which family of instruments does the {entity} belong?
            Which group of instruments has the {entity} in it?""",
        ),
        relation(
            "sides",
            _SIDES,
            "the number of sides of {an_entity}",
            """{An_entity} has {answer} sides.
            A shape with {answer} sides may be {an_entity}.
            If you count the sides of {an_entity}, you get {answer}.
            To draw {an_entity} you need {answer} lines.
            Draw {answer} sides in the right way and you have {an_entity}.""",
            """How many sides does {an_entity} have?
            How many lines do I need to draw {an_entity}?
            How many sides can you count on {an_entity}?""",
        ),
    )
