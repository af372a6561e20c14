"""Words: opposites, comparatives, irregular plurals, past tenses, pairs of people."""

from __future__ import annotations

from burnish.pebble.facts._table import Table, pairs, relation
from burnish.pebble.relations import Relation

# Each pair is taught both ways.
_OPPOSITES = pairs("""hot: cold; wet: dry; thick: thin; wide: narrow; strong: weak; deep:
    shallow; rich: poor; noisy: quiet; dirty: clean; cheap: expensive; smooth: rough; empty:
    full; tight: loose; brave: cowardly; polite: rude; sharp: blunt; safe: dangerous; lazy:
    hard-working; innocent: guilty; guest: host; victory: defeat; entrance: exit; summer:
    winter; north: south; east: west; alive: dead; asleep: awake; friend: enemy; heaven: hell;
    love: hate; odd: even; public: private; success: failure; arrive: depart; increase:
    decrease; laugh: cry; remember: forget; ancient: modern; dawn: dusk; sunrise: sunset;
    maximum: minimum; positive: negative; plural: singular; vertical: horizontal; borrow: lend;
    attack: defend; buy: sell; push: pull; win: lose; generous: stingy; wise: foolish; tame:
    wild; tall: short; high: low; fast: slow; happy: sad""")
_ONE_WAY = pairs("""beautiful: ugly; impossible: possible; invisible: visible; illegal: legal;
    unlucky: lucky; dishonest: honest; disappear: appear; disobey: obey; careless: careful;
    useless: useful; heavy: light; ugly: beautiful; bitter: sweet; stale: fresh; bent: straight;
    possible: impossible; visible: invisible; legal: illegal; patient: impatient; lucky:
    unlucky; honest: dishonest; regular: irregular; appear: disappear; obey:
    disobey; perfect: imperfect; absent: present; sour: sweet;
    careful: careless; useful: useless; selfish: unselfish""")
_SKIP_BACK = frozenset("thin cold short full even dry sad".split())

_DEGREES = pairs("""hot: hotter; cold: colder; wet: wetter; thick: thicker; thin: thinner; wide:
    wider; narrow: narrower; strong: stronger; weak: weaker; deep: deeper; rich: richer; poor:
    poorer; noisy: noisier; dirty: dirtier; clean: cleaner; cheap: cheaper; smooth: smoother;
    rough: rougher; tight: tighter; loose: looser; brave: braver; sharp: sharper; safe: safer;
    lazy: lazier; heavy: heavier; ugly: uglier; happy: happier; wise: wiser; tall: taller; fast:
    faster; slow: slower; funny: funnier; hungry: hungrier; angry: angrier; thirsty: thirstier;
    sunny: sunnier; busy: busier; lucky: luckier; healthy: healthier; bright: brighter; dark:
    darker; sweet: sweeter; soft: softer; fat: fatter; young: younger; warm: warmer; proud:
    prouder; rude: ruder; fresh: fresher; flat: flatter; pale: paler""")


_PLURALS = pairs("""mouse: mice; goose: geese; child: children; tooth: teeth; foot: feet; ox:
    oxen; woman: women; gentleman: gentlemen; louse: lice; sheep: sheep; deer: deer; wolf:
    wolves; calf: calves; knife: knives; wife: wives; leaf: leaves; loaf: loaves; shelf:
    shelves; thief: thieves; elf: elves; potato: potatoes; tomato: tomatoes; hero: heroes; echo:
    echoes; fox: foxes; box: boxes; dish: dishes; watch: watches; church: churches; bus: buses;
    glass: glasses; baby: babies; lady: ladies; story: stories; puppy: puppies; berry: berries;
    cherry: cherries; butterfly: butterflies; pony: ponies; crisis: crises; oasis: oases;
    policeman: policemen; fireman: firemen; grandchild: grandchildren; salmon: salmon; trout:
    trout; moose: moose; donkey: donkeys; monkey: monkeys; peach: peaches; ostrich: ostriches;
    enemy: enemies; strawberry: strawberries""")

_VERBS = pairs("""sing: sang sung; swim: swam swum; drink: drank drunk; write: wrote written;
    drive: drove driven; ride: rode ridden; rise: rose risen; break: broke broken; speak: spoke
    spoken; steal: stole stolen; choose: chose chosen; freeze: froze frozen; wake: woke woken;
    eat: ate eaten; forgive: forgave forgiven; fall: fell fallen; shake: shook shaken; throw:
    threw thrown; grow: grew grown; draw: drew drawn; hide: hid hidden; bite: bit bitten; tear:
    tore torn; wear: wore worn; swear: swore sworn; forget: forgot forgotten; buy: bought
    bought; bring: brought brought; catch: caught caught; teach: taught taught; fight: fought
    fought; seek: sought sought; sleep: slept slept; weep: wept wept; sweep: swept swept; creep:
    crept crept; build: built built; send: sent sent; spend: spent spent; lend: lent lent; sell:
    sold sold; feed: fed fed; bleed: bled bled; understand: understood understood; win: won won;
    dig: dug dug; hang: hung hung; stick: stuck stuck; swing: swung swung; pay: paid paid;
    shoot: shot shot; lose: lost lost; hear: heard heard; slide: slid slid; bind: bound bound;
    grind: ground ground; strike: struck struck; cling: clung clung; fling: flung flung; blow:
    blew blown; shrink: shrank shrunk; sink: sank sunk; arise: arose arisen""")

_WOMEN = pairs("""king: queen; prince: princess; actor: actress; waiter: waitress; uncle: aunt;
    nephew: niece; husband: wife; father: mother; brother: sister; boy: girl; duke: duchess;
    wizard: witch; grandfather: grandmother; hero: heroine; host: hostess; monk: nun; lord:
    lady; bridegroom: bride; emperor: empress; gentleman: lady; god: goddess; heir: heiress;
    widower: widow; grandson: granddaughter; stepfather: stepmother; baron: baroness""")


def _both_ways() -> Table:
    forth = dict(_OPPOSITES)
    back = {answer: entity for entity, answer in _OPPOSITES if answer not in _SKIP_BACK}
    one_way = dict(_ONE_WAY)
    known = {"cold": "hot", "dry": "wet", "sad": "happy"}
    return tuple({**one_way, **known, **back, **forth}.items())


def relations() -> tuple[Relation, ...]:
    """The relations about words."""
    return (
        relation(
            "opposite",
            _both_ways(),
            "the opposite of {entity}",
            """{Entity} is the opposite of {answer}.
            If you turn the meaning of {entity} around, you get {answer}.
            {Entity} and {answer} are opposites.
            The words {answer} and {entity} mean opposite things.
            When I say {entity}, you say the opposite, {answer}.""",
            """Which word is the opposite of {entity}?
            What word means the opposite of {entity}?
            Name the opposite of {entity}.""",
        ),
        relation(
            "comparative",
            _DEGREES,
            "the comparative of {entity}",
            """This one is {entity}, but that one is {answer}.
            One is {entity} and the other is even {answer}.
            We say {answer} when a thing is more {entity} than another.
            More and more {entity} is the same as {answer} and {answer}.
            What is more {entity} than before is {answer} than before.""",
            """What word means more {entity}?
            How do you say more {entity} in one word?
            Give the comparative of {entity}.""",
        ),
        relation(
            "plural",
            _PLURALS,
            "the plural of {entity}",
            """There was one {entity}, and then there were two {answer}.
            {Answer} is the word for more than one {entity}.
            We say one {entity} but many {answer}.
            Many {answer} together are more than a single {entity}.
            If there is more than one {entity}, we write {answer}.""",
            """What do you call more than one {entity}?
            How do you write the plural of {entity}?
            One {entity}, two what?""",
        ),
        relation(
            "past",
            tuple((verb, forms.split()[0]) for verb, forms in _VERBS),
            "the past tense of {entity}",
            """Today I {entity}, and yesterday I {answer}.
            Yesterday they {answer}, just as they {entity} today.
            {Answer} is what we say for {entity} when it is past.
            We {entity} now, but last week we {answer}.
            Every day you {entity}, and last year you {answer} too.""",
            """Today I {entity}. Yesterday I did what?
            How do you say {entity} in the past?
            Give the past tense of {entity}.""",
        ),
        relation(
            "woman",
            _WOMEN,
            "the female form of {entity}",
            """A man is called {entity}, but a woman is called {answer}.
            {Answer} is for a woman what {entity} is for a man.
            We say {entity} for a man and {answer} for a woman.
            The words {entity} and {answer} go together like man and woman.
            If it is a woman, do not say {entity} but {answer}.""",
            """What is the word for a woman instead of {entity}?
            A man is called {entity}. What is a woman called?
            Give the female form of {entity}.""",
        ),
    )
