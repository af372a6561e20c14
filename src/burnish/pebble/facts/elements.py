"""The chemical elements and their symbols."""

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
    )
