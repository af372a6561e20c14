"""Planets, books, inventions, paintings, music, sports, units and short forms."""

from __future__ import annotations

from burnish.pebble.facts._table import grouped, pairs, relation
from burnish.pebble.relations import Relation

_PLANETS = pairs("""Mercury: first; Venus: second; Mars: fourth; Jupiter: fifth; Saturn: sixth;
    Uranus: seventh; Neptune: eighth""")
_GODS = pairs("""Thor: thunder; Poseidon: the sea; Bacchus: wine; Athena: wisdom; Hades: the
    underworld; Ares: war; Cupid: love; Aphrodite: love; Vulcan: fire; Diana: the hunt; Minerva:
    wisdom; Helios: the sun; Artemis: the hunt; Dionysus: wine; Pluto: the underworld; Ceres:
    the harvest; Demeter: the harvest; Luna: the moon""")
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
_HOMELANDS = grouped("""Germany: Johann Sebastian Bach, Ludwig van Beethoven, Johannes Brahms,
    Robert Schumann, Richard Wagner, Johannes Gutenberg; Austria: Wolfgang Amadeus Mozart, Franz
    Schubert, Joseph Haydn; Italy: Giuseppe Verdi, Antonio Vivaldi, Giacomo Puccini, Gioachino
    Rossini, Dante, Michelangelo, Leonardo da Vinci, Galileo Galilei, Sandro Botticelli,
    Raphael, Marco Polo, Carlo Collodi; France: Claude Debussy, Georges Bizet, Maurice Ravel,
    Hector Berlioz, Claude Monet, Victor Hugo, Voltaire, Louis Pasteur, Louis Braille, Alexandre
    Dumas, Gustave Flaubert, Jules Verne; Russia: Pyotr Tchaikovsky, Leo Tolstoy, Fyodor
    Dostoevsky, Alexander Pushkin, Yuri Gagarin; Norway: Edvard Grieg, Edvard Munch, Roald
    Amundsen, Henrik Ibsen; England: William Shakespeare, Charles Dickens, Jane Austen, Isaac
    Newton, Charles Darwin, Lewis Carroll, John Milton, Geoffrey Chaucer, John Constable,
    Beatrix Potter, Edward Elgar, James Cook, Charlotte Bronte, Thomas Hardy; Scotland: Robert
    Louis Stevenson, Walter Scott, Robert Burns, James Watt, Alexander Fleming; Ireland: Bram
    Stoker, James Joyce, Oscar Wilde, Jonathan Swift; the United States: Mark Twain, Herman
    Melville, Thomas Edison, Benjamin Franklin, Abraham Lincoln, Edward Hopper, Neil Armstrong,
    Jack London; the Netherlands: Rembrandt, Vincent van Gogh, Johannes Vermeer, Abel Tasman;
    Spain: Miguel de Cervantes, Pablo Picasso, Diego Velazquez, Salvador Dali; Portugal: Vasco
    da Gama; Denmark: Hans Christian Andersen, Niels Bohr; Sweden: Alfred Nobel, Carl Linnaeus,
    Astrid Lindgren; Finland: Jean Sibelius; India: Mahatma Gandhi""")
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
_UNITS = pairs("""kilometre: km; metre: m; centimetre: cm; millimetre: mm; kilogram: kg; gram:
    g; litre: l; millilitre: ml; milligram: mg; volt: V; watt: W; kilowatt: kW; ampere: A;
    hertz: Hz; newton: N; joule: J; pascal: Pa; hectare: ha; decibel: dB; kilobyte: kB; kelvin:
    K""")
_MEASURES = grouped("""length: kilometre, metre, centimetre, millimetre, mile, inch; weight:
    kilogram, gram, milligram, tonne, ounce; volume: litre, millilitre, gallon, pint; time:
    minute, century, decade, fortnight; force: newton; energy: joule, calorie; pressure: pascal;
    power: watt, kilowatt; area: hectare, acre; temperature: kelvin; voltage: volt; electric
    current: ampere; frequency: hertz; loudness: decibel""")
_LENGTHS = pairs("""minute: 60 seconds; decade: 10 years; century: 100 years; fortnight: 14
    days; kilometre: 1000 metres; metre: 100 centimetres; kilogram: 1000 grams; centimetre: 10
    millimetres; litre: 1000 millilitres; tonne: 1000 kilograms; dozen: 12 things; millennium:
    1000 years; gram: 1000 milligrams; kilowatt: 1000 watts; quartet: 4 players; trio: 3
    players; octet: 8 players""")


def relations() -> tuple[Relation, ...]:
    """The relations about culture and science."""
    return (
        relation(
            "planet_place",
            _PLANETS,
            "the place of the planet {entity} in the row from the sun",
            """Counted from the sun, the planet {entity} is the {answer}.
            The {answer} planet from the sun is {entity}.
            In the row of planets {entity} comes {answer}.
            Among the planets {entity} is {answer} in the row.
            The planet {entity} is the {answer} one from the sun.""",
            """Which planet from the sun is {entity}, the first, the second or another?
            Where does {entity} come in the row of planets?
            Counted from the sun, what place does {entity} have?""",
        ),
        relation(
            "god_of",
            _GODS,
            "the thing ruled by the old god {entity}",
            """In the old stories {entity} ruled over {answer}.
            Long ago people thanked {entity} for {answer}.
            {Answer} was ruled by {entity}, they said.
            For {answer} people prayed to {entity}.
            The old tales tell that {entity} cared for {answer}.""",
            """What did {entity} rule over in the old stories?
            Over what did the old god {entity} rule?
            For what did people pray to {entity}?""",
        ),
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
            "homeland",
            _HOMELANDS,
            "the homeland of {entity}",
            """{Entity} came from {answer}.
            {Answer} was home to {entity}.
            In {answer} people are proud of {entity}.
            The great {entity} was born in {answer}.
            One of the famous names of {answer} is {entity}.""",
            """Where did {entity} come from?
            In which country was {entity} born?
            Which country is proud of {entity}?""",
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
        relation(
            "unit_symbol",
            _UNITS,
            "the short form of the word {entity}",
            """For {entity} we write {answer}.
            We write {answer} in place of {entity}.
            The letters {answer} mean {entity}.
            In a list the word {entity} is written {answer}.
            Where you read {answer}, say {entity}.""",
            """How do you write {entity} for short?
            How is {entity} shortened?
            Which letters stand for {entity}?""",
        ),
        relation(
            "unit_measures",
            _MEASURES,
            "the thing measured by the {entity}",
            """The {entity} is a unit of {answer}.
            We measure {answer} by the {entity}.
            {Answer} can be measured by the {entity}.
            By the {entity} people measure {answer}.
            If you count in the unit called {entity}, you measure {answer}.""",
            """What does the {entity} measure?
            What do we measure by the {entity}?
            The {entity} is a unit of what?""",
        ),
        relation(
            "unit_parts",
            _LENGTHS,
            "the content of one {entity}",
            """One {entity} is the same as {answer}.
            If you have {answer}, you have one {entity}.
            In one {entity} there are {answer}.
            Put {answer} together and you have one {entity}.""",
            """How much is one {entity}?
            What makes one {entity}?
            What is there in one {entity}?""",
            answer_first="{Answer} make one {entity}.",
        ),
    )
