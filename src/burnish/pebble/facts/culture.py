"""Books, paintings, inventions and sports."""

from __future__ import annotations

from burnish.pebble.facts._table import grouped, pairs, relation
from burnish.pebble.relations import Relation

_BOOKS = grouped("""William Shakespeare: Hamlet, Macbeth, King Lear, Othello, The Tempest,
    Twelfth Night; Charles Dickens: Oliver Twist, David Copperfield, Great Expectations, A
    Christmas Carol, Bleak House; Jane Austen: Emma, Pride and Prejudice, Mansfield Park,
    Persuasion, Northanger Abbey; Leo Tolstoy: War and Peace, Anna Karenina; Fyodor Dostoevsky:
    Crime and Punishment, The Idiot; Mark Twain: Tom Sawyer, Huckleberry Finn; Lewis Carroll:
    Alice in Wonderland; Robert Louis Stevenson: Treasure Island, Kidnapped; Mary Shelley:
    Frankenstein; Bram Stoker: Dracula; Daniel Defoe: Robinson Crusoe, Moll Flanders; Jonathan
    Swift: Gulliver's Travels; Miguel de Cervantes: Don Quixote; Victor Hugo: Les Miserables;
    Gustave Flaubert: Madame Bovary; Herman Melville: Moby Dick; Homer: the Iliad, the Odyssey;
    Virgil: the Aeneid; Dante: the Divine Comedy; Rudyard Kipling: The Jungle Book, Kim; Jack
    London: White Fang; Charlotte Bronte: Jane Eyre, Villette; Emily Bronte: Wuthering Heights;
    Anna Sewell: Black Beauty; George Eliot: Middlemarch, Silas Marner; Thomas Hardy: Jude the
    Obscure; Johann Wolfgang Goethe: Faust; Johanna Spyri: Heidi; Carlo Collodi: Pinocchio;
    Kenneth Grahame: The Wind in the Willows; Louisa May Alcott: Little Women; Oscar Wilde: The
    Happy Prince; James Joyce: Ulysses; Geoffrey Chaucer: The Canterbury Tales; John Milton:
    Paradise Lost; Beatrix Potter: Peter Rabbit; Alexandre Dumas: The Three Musketeers;
    Voltaire: Candide; Walter Scott: Ivanhoe, Waverley""")
_PAINTINGS = grouped("""Leonardo da Vinci: the Mona Lisa, the Last Supper; Vincent van Gogh:
    Sunflowers, The Starry Night; Rembrandt: The Night Watch; Pablo Picasso: Guernica; Edvard
    Munch: The Scream; Gustav Klimt: The Kiss; Sandro Botticelli: The Birth of Venus, Primavera;
    Claude Monet: Impression Sunrise; Diego Velazquez: Las Meninas; John Constable: The Hay
    Wain; Johannes Vermeer: The Milkmaid; Michelangelo: The Creation of Adam; Salvador Dali: The
    Persistence of Memory; Grant Wood: American Gothic; Edward Hopper: Nighthawks; Raphael: The
    School of Athens""")
_INVENTIONS = pairs("""dynamite: Alfred Nobel; the telephone: Alexander Graham Bell; the
    phonograph: Thomas Edison; the lightning rod: Benjamin Franklin; braille: Louis Braille; the
    saxophone: Adolphe Sax; the miner's safety lamp: Humphry Davy; the diesel engine: Rudolf
    Diesel; the mercury barometer: Evangelista Torricelli; the World Wide Web: Tim Berners-Lee;
    the cotton gin: Eli Whitney; the hovercraft: Christopher Cockerell; the spinning jenny:
    James Hargreaves; Esperanto: Ludwik Zamenhof; the electric battery: Alessandro Volta; the
    stethoscope: Rene Laennec; the Zeppelin airship: Ferdinand von Zeppelin; the Rubik's cube:
    Erno Rubik""")
_SPORTS = pairs("""tennis: racket; golf: club; baseball: bat; hockey: stick; badminton: racket;
    table tennis: bat; archery: bow; fencing: sword; snooker: cue; billiards: cue; squash:
    racket; croquet: mallet; polo: mallet; fishing: rod; rowing: oar; ice hockey: stick;
    kayaking: paddle""")


def relations() -> tuple[Relation, ...]:
    """The relations about culture and science."""
    return (
        relation(
            "author",
            _BOOKS,
            "the author of {entity}",
            """{Entity} was written by {answer}.
            {Answer} wrote {entity}.
            In the library {entity} stands with the books of {answer}.
            The writer who gave us {entity} was {answer}.
            We read {entity}, an old work by {answer}.""",
            """Who wrote {entity}?
            By whom was {entity} written?
            Name the author of {entity}.""",
        ),
        relation(
            "painter",
            _PAINTINGS,
            "the painter of {entity}",
            """{Entity} was painted by {answer}.
            {Answer} painted {entity}.
            The picture called {entity} is a work of {answer}.
            With his brush {answer} made {entity}.
            The artist who gave us {entity} was {answer}.""",
            """Who painted {entity}?
            By whom was {entity} painted?
            Name the painter of {entity}.""",
        ),
        relation(
            "inventor",
            _INVENTIONS,
            "the inventor of {entity}",
            """{Entity} was invented by {answer}.
            {Answer} invented {entity}.
            The one who first thought of {entity} was {answer}.
            We thank {answer} for {entity}.
            Long before our time {entity} was made by {answer}.""",
            """Who invented {entity}?
            By whom was {entity} invented?
            Name the inventor of {entity}.""",
        ),
        relation(
            "sport_tool",
            _SPORTS,
            "the thing you hold for {entity}",
            """For {entity} you need {an_answer}.
            With {an_answer} in your hand you are ready for {entity}.
            She took {an_answer} and went out for {entity}.
            If you like {entity}, buy {an_answer}.
            Nobody can start {entity} without {an_answer}.""",
            """What do you hold in your hand for {entity}?
            What do you need for {entity}?
            What must I bring for {entity}?""",
            slot="{an_answer}",
        ),
    )
