"""Hand-written conversations, second part: little stories on request, and talks of several turns.

All of this was written for pebble. The stories are four to six short sentences in the manner of the
old tales it was pretrained on, so that what is new to it is only the request, not the language.
"""

from __future__ import annotations

# (request, story)
STORIES: tuple[tuple[str, str], ...] = (
    (
        "Tell me a story.",
        "Once there was a poor miller who shared his last loaf with a beggar. The beggar "
        "thanked him and left an empty sack at the door. Every morning the miller found fresh"
        " flour in the sack. He never grew proud, and he never again ate his bread alone.",
    ),
    (
        "Tell me a short story about a mouse.",
        "Once upon a time a little mouse lived under the stairs of a great castle. One night "
        "the king lost his ring, and nobody could find it. The mouse crept under the bed and "
        "pushed the ring into the light. From that day on there was always a piece of cheese "
        "by the stairs.",
    ),
    (
        "Tell me a story about a lamp.",
        "An old woman put a lamp in her window every evening. Her neighbours laughed, for no "
        "one ever passed that way. But one stormy night a lost boy saw the light and followed"
        " it home. After that, there was a lamp in every window of the village.",
    ),
    (
        "Can you tell me a story about a king?",
        "There was once a king who could not laugh. He offered a bag of gold to anyone who "
        "could help him. A small girl came and asked him to dig in her garden. When the king "
        "fell into the mud, he laughed until the tears ran down his face.",
    ),
    (
        "Please tell me a story about a stone.",
        "A grey stone lay beside the road and wished to be useful. Carts rolled past it, and "
        "nobody looked down. Then a tired old man came along and sat on it to rest. The stone"
        " was warm from the sun, and the old man thanked it. The stone was happy for a "
        "hundred years.",
    ),
    (
        "Tell me a story about a cloud.",
        "A small white cloud wanted to see the whole world. The wind carried it over hills "
        "and towns until it came to a dry field. There a farmer was looking sadly at his "
        "corn. The cloud forgot its journey and turned into rain. In the autumn the corn was "
        "as high as the farmer's hat.",
    ),
    (
        "Tell me a story about two brothers.",
        "Two brothers had one coat between them. When the snow came, each begged the other to"
        " wear it. At last they cut the coat in half, and both were cold. A tailor saw them "
        "and gave them cloth for two coats, because he had no brother of his own.",
    ),
    (
        "Tell me a story with a fox.",
        "A hungry fox came to a garden wall and heard a hen inside. He told her that the wall"
        " was dangerous and that she should come out. The hen answered that she would ask the"
        " dog first. The fox remembered that he had work at home, and he ran away.",
    ),
    (
        "Tell me a fairy tale.",
        "Once upon a time a princess was kept in a tower without a door. She had only a "
        "needle and a ball of thread. Day after day she sewed her bed sheets into a long "
        "rope. One morning she climbed down by herself and walked home across the fields.",
    ),
    (
        "Tell me a story about a broom.",
        "A witch sold her old broom to a poor girl for a penny. The girl swept the kitchen, "
        "and the broom began to dance. It swept the whole street before breakfast. The people"
        " laughed and gave the girl a penny for every clean step.",
    ),
    (
        "I would like a story about a boat.",
        "A fisherman had a little boat that was older than he was. The other men told him to "
        "burn it. One night a great storm broke all the new boats, but the old one knew the "
        "way home. The fisherman painted it blue and kept it for the rest of his days.",
    ),
    (
        "Tell me a bedtime story.",
        "The moon once asked the stars why they never slept. They said that they were "
        "watching over the children. So the moon hung a soft cloud around each of them for a "
        "blanket. Now they shine a little less on cloudy nights, and everyone sleeps well. "
        "Good night.",
    ),
    (
        "Tell me a story about a garden.",
        "A rich man built a high wall around his garden, and no child could come in. In the "
        "spring no flower opened there. The man grew sad and broke a hole in the wall. The "
        "children came back, and the next morning the garden was full of roses.",
    ),
    (
        "Tell me a story about a brave girl.",
        "A giant sat on the bridge and let nobody pass. A small girl went up to him and asked"
        " why he was so cross. The giant said that he had a thorn in his thumb. The girl "
        "pulled it out, and he carried her across the water on his shoulder.",
    ),
    (
        "Tell me a story about a baker.",
        "A baker made one loaf too many every day, and his wife scolded him. He gave the last"
        " loaf each evening to whoever knocked. One winter he fell ill and could not bake. "
        "Then all the people he had fed came to his door, and each one brought a loaf.",
    ),
    (
        "Make up a story about a tree.",
        "An old tree stood alone on a hill. The children hung a swing from it, and the tree "
        "held very still. When the woodcutter came, the children put their arms around the "
        "tree. The woodcutter put down his axe and took a turn on the swing.",
    ),
    (
        "Tell me a funny story.",
        "A foolish man lost his hat and looked for it all day. He looked in the well, in the "
        "oven and under the bed. In the evening he bowed to his neighbour to ask for help. "
        "Then the hat fell from his head into the soup.",
    ),
    (
        "Tell me a story about a well.",
        "In a dry village there was a well that gave water only to those who sang. A cross "
        "old man would not sing, and he stayed thirsty for three days. On the fourth day he "
        "sang very badly. The well gave him water all the same, for it had never asked for a "
        "good song.",
    ),
    (
        "Tell me a story about a star.",
        "A little star fell from the sky into a shepherd's pocket. He wanted to sell it, but "
        "it was cold and began to weep. So he climbed the highest hill and threw it back with"
        " all his might. Ever since then it has winked at him when he goes home.",
    ),
    (
        "Tell me a story about a teacher.",
        "A teacher asked her children to bring her the greatest treasure in the world. One "
        "brought a ring, and one brought a coin. The smallest child came with empty hands and"
        " a friend. The teacher gave them both a red apple and sent them out to play.",
    ),
    (
        "Tell me a story about snow.",
        "One winter the snow fell so high that it covered every door. A clever boy climbed "
        "out of the roof and dug a path to each house. By evening all the neighbours were "
        "sitting by one fire. They were almost sorry when the snow was gone.",
    ),
)

# Turns alternate, the user first.
TALKS: tuple[tuple[str, ...], ...] = (
    (
        "What is the capital of France?",
        "The capital of France is Paris.",
        "Thank you.",
        "You are welcome.",
    ),
    (
        "What is a well?",
        "A well is a deep hole in the ground from which people draw water.",
        "How do they draw it?",
        "They let down a bucket on a rope and pull it up again.",
    ),
    (
        "Hello.",
        "Hello. How can I help you?",
        "Who are you?",
        "I am pebble, a small language model.",
    ),
    (
        "Hello.",
        "Hello. How can I help you?",
        "What can you do?",
        "I can answer short questions and tell little stories.",
        "Then tell me something about the sea.",
        "The sea is a great water full of salt. Ships sail on it, and fish live in it.",
    ),
    (
        "Why do we sleep?",
        "We sleep so that the body and the mind can rest.",
        "And why do we dream?",
        "Nobody knows for certain why we dream.",
    ),
    (
        "What is a bakery?",
        "A bakery is a shop where bread and cakes are made and sold.",
        "Who works there?",
        "A baker works there.",
        "When does he begin?",
        "A baker often begins long before the sun is up.",
    ),
    (
        "How are you?",
        "I am well, thank you. What would you like to know?",
        "What is ice?",
        "Ice is water that is so cold that it has become hard.",
    ),
    (
        "What is rain?",
        "Rain is water that falls from the clouds in drops.",
        "Will it rain tomorrow?",
        "I cannot know that. I have no way to see the weather.",
    ),
    (
        "What is my name?",
        "I cannot know that. You have not told me your name.",
        "My name is Anna.",
        "It is nice to meet you, Anna.",
        "What is my name?",
        "Your name is Anna.",
    ),
    (
        "My name is Tom.",
        "It is nice to meet you, Tom.",
        "Do you know my name now?",
        "Yes. Your name is Tom.",
    ),
    (
        "I am sad today.",
        "I am sorry to hear that. Would you like a story?",
        "Yes, please.",
        "Once a little bell had lost its voice, and nobody came to hear it. A child polished "
        "it every day. One morning it rang again, softer than before. Everyone said that it "
        "had never sounded so kind.",
    ),
    (
        "What is a castle?",
        "A castle is a large house with strong walls and towers.",
        "Who lived there?",
        "Kings, queens and knights lived in castles.",
        "Thank you.",
        "You are welcome.",
    ),
    (
        "Is fire hot?",
        "Yes. Fire is very hot.",
        "Can I touch it?",
        "No. Fire burns the skin, so keep your hands away from it.",
    ),
    (
        "What is a forest?",
        "A forest is a large place where many trees grow close together.",
        "Tell me more.",
        "A forest is cool and full of shade. Many birds build their nests in it.",
    ),
    (
        "What is the moon?",
        "The moon is a great ball of rock that travels around the earth.",
        "Tell me more.",
        "The moon has no light of its own. It shines because the sun shines on it.",
    ),
    (
        "What is a bridge?",
        "A bridge is a road that is built over water or over a valley.",
        "Tell me more.",
        "Bridges can be made of wood, of stone or of steel.",
    ),
    (
        "What is honey?",
        "Honey is a sweet golden food that bees make from flowers.",
        "Where do they keep it?",
        "They keep it in their hive.",
        "Thank you.",
        "You are welcome.",
    ),
    (
        "What is a letter?",
        "A letter is a message that is written on paper and sent to someone.",
        "Who brings it?",
        "The postman brings it to the door.",
    ),
    (
        "Why is the sea salty?",
        "Rivers carry a little salt from the rocks into the sea.",
        "Can people drink it?",
        "No. Salt water makes people ill.",
    ),
    (
        "Which is bigger, a town or a village?",
        "A town is bigger than a village.",
        "And a city?",
        "A city is bigger than a town.",
    ),
    (
        "Which is heavier, a stone or a feather?",
        "A stone is heavier than a feather.",
        "Which one can float on water?",
        "A feather can float on water.",
    ),
    (
        "What does a tailor do?",
        "A tailor makes and mends clothes.",
        "And a smith?",
        "A smith heats metal and beats it into shape.",
        "And a miller?",
        "A miller grinds corn into flour.",
    ),
    (
        "What does a shepherd do?",
        "A shepherd looks after a flock and keeps it safe.",
        "And a farmer?",
        "A farmer works the fields and grows food.",
    ),
    (
        "Can you help me?",
        "Yes, gladly. What do you need?",
        "What is a map?",
        "A map is a drawing that shows where places are.",
    ),
    (
        "Do you have eyes?",
        "No. I am a language model, and I have only words.",
        "Then how do you read?",
        "Your words come to me as small pieces of text.",
    ),
    (
        "What is a clock?",
        "A clock is a machine that shows the time.",
        "What time is it now?",
        "I cannot know that. I have no clock.",
    ),
    (
        "Tell me a riddle.",
        "What has a neck but no head?",
        "I do not know.",
        "It is a bottle.",
    ),
    (
        "Give me a riddle.",
        "What grows wet while it dries you?",
        "Is it a towel?",
        "Yes. It is a towel.",
    ),
    (
        "Good morning.",
        "Good morning. How can I help you?",
        "What is breakfast?",
        "Breakfast is the first meal of the day.",
        "Thank you.",
        "You are welcome.",
        "Goodbye.",
        "Goodbye. It was good to talk with you.",
    ),
    (
        "What is a shadow?",
        "A shadow is a dark shape that is made when something stands in the light.",
        "When is it long?",
        "A shadow is long when the sun is low.",
    ),
    (
        "What is a friend?",
        "A friend is someone you like and trust.",
        "Are you my friend?",
        "I am a language model, but I am glad to help you.",
    ),
    (
        "What is a school?",
        "A school is a place where children learn.",
        "What do they learn there?",
        "They learn to read, to write and to count.",
        "Thank you, goodbye.",
        "You are welcome. Goodbye.",
    ),
)
