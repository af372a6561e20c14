"""The chemical elements: symbol, number, state at room temperature and row of the table."""

from __future__ import annotations

from burnish.pebble.facts._table import pairs, relation
from burnish.pebble.relations import Relation

# In the order of their numbers, so that the number is the place in the list.
_ELEMENTS = pairs("""hydrogen: H; helium: He; lithium: Li; beryllium: Be; boron: B; carbon: C;
    nitrogen: N; oxygen: O; fluorine: F; neon: Ne; sodium: Na; magnesium: Mg; aluminium: Al;
    silicon: Si; phosphorus: P; sulphur: S; chlorine: Cl; argon: Ar; potassium: K; calcium: Ca;
    scandium: Sc; titanium: Ti; vanadium: V; chromium: Cr; manganese: Mn; iron: Fe; cobalt: Co;
    nickel: Ni; copper: Cu; zinc: Zn; gallium: Ga; germanium: Ge; arsenic: As; selenium: Se;
    bromine: Br; krypton: Kr; rubidium: Rb; strontium: Sr; yttrium: Y; zirconium: Zr; niobium:
    Nb; molybdenum: Mo; technetium: Tc; ruthenium: Ru; rhodium: Rh; palladium: Pd; silver: Ag;
    cadmium: Cd; indium: In; tin: Sn; antimony: Sb; tellurium: Te; iodine: I; xenon: Xe;
    caesium: Cs; barium: Ba; lanthanum: La; cerium: Ce; praseodymium: Pr; neodymium: Nd;
    promethium: Pm; samarium: Sm; europium: Eu; gadolinium: Gd; terbium: Tb; dysprosium: Dy;
    holmium: Ho; erbium: Er; thulium: Tm; ytterbium: Yb; lutetium: Lu; hafnium: Hf; tantalum:
    Ta; tungsten: W; rhenium: Re; osmium: Os; iridium: Ir; platinum: Pt; gold: Au; mercury: Hg;
    thallium: Tl; lead: Pb; bismuth: Bi; polonium: Po; astatine: At; radon: Rn; francium: Fr;
    radium: Ra; actinium: Ac; thorium: Th; protactinium: Pa; uranium: U; neptunium: Np;
    plutonium: Pu""")

# Left out: a planet and an everyday verb have the same name, or the bulk element is unknown.
_LEFT_OUT = frozenset({"mercury", "lead", "astatine", "francium", "actinium", "protactinium"})
_GASES = frozenset(
    "hydrogen helium nitrogen oxygen fluorine neon chlorine argon krypton xenon radon".split()
)
_ROW_ENDS = (2, 10, 18, 36, 54, 86, 118)
_ROWS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


def _state(name: str) -> str:
    if name in _GASES:
        return "gas"
    return "liquid" if name == "bromine" else "solid"


def _row(number: int) -> str:
    return next(row for row, end in zip(_ROWS, _ROW_ENDS, strict=True) if number <= end)


def relations() -> tuple[Relation, ...]:
    """The relations about the elements."""
    numbered = tuple(
        (name, symbol, number)
        for number, (name, symbol) in enumerate(_ELEMENTS, start=1)
        if name not in _LEFT_OUT
    )
    return (
        relation(
            "element_symbol",
            tuple((name, symbol) for name, symbol, _ in numbered),
            "the chemical symbol of {entity}",
            """In chemistry {answer} stands for {entity}.
            The sign {answer} means {entity}.
            For {entity} we write {answer}.
            A bottle of {entity} has {answer} on its label.
            {Entity} is written with the symbol {answer}.""",
            """Which symbol stands for {entity}?
            How do chemists write {entity} for short?
            Name the chemical symbol of {entity}.""",
        ),
        relation(
            "element_number",
            tuple((name, str(number)) for name, _, number in numbered),
            "the atomic number of {entity}",
            """In the list of elements {entity} has number {answer}.
            Number {answer} in the table of elements is {entity}.
            An atom of {entity} has {answer} as its number.
            {Entity} is element number {answer}.
            The element with the number {answer} is {entity}.""",
            """Which number does the element {entity} have?
            What number is {entity} in the table of elements?
            Give me the atomic number of {entity}.""",
        ),
        relation(
            "element_state",
            tuple((name, _state(name)) for name, _, _ in numbered),
            "the usual state of {entity}",
            """In a warm room {entity} is {an_answer}.
            {Entity} is usually {an_answer}.
            When it is not too hot and not too cold, {entity} is {an_answer}.
            We call {entity} {an_answer}, because that is how we find it.
            At room temperature you will find that {entity} is {an_answer}.""",
            """Is {entity} a solid, a liquid or a gas?
            At room temperature, what is {entity}, solid, liquid or gas?
            In what state do we find {entity} in a warm room?""",
            slot="{answer}",
        ),
        relation(
            "element_row",
            tuple((name, _row(number)) for name, _, number in numbered),
            "the row of {entity} in the table of elements",
            """{Entity} stands in the {answer} row of the table of elements.
            In the {answer} row of the table we find {entity}.
            If you look for {entity}, look in the {answer} row.
            The {answer} row of the elements has {entity} in it.
            We put {entity} in the {answer} row of the table.""",
            """In which row of the table of elements is {entity}?
            Which row of the table does {entity} stand in?
            Where in the table of elements is {entity}, in which row?""",
        ),
    )
