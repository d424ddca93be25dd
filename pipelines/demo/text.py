"""The demo's sentences, written for this project: emotional wording over topics that differ by corpus."""

from __future__ import annotations

import numpy as np

TOPICS = {
    "iemocap": (
        "the wedding",
        "our old flat",
        "my brother",
        "the bus to the coast",
        "the insurance form",
        "your letter",
    ),
    "meld": ("the sofa", "the coffee machine", "my audition", "the turkey", "the blind date", "the apartment upstairs"),
    "mosei": (
        "the camera work",
        "this phone",
        "the soundtrack",
        "the plot of this film",
        "the new laptop",
        "chapter two",
    ),
}
WORDS = {
    "neutral": (
        "I put {} on the list for Tuesday.",
        "We talked about {} after lunch.",
        "There is a note about {} on the table.",
        "{} takes about twenty minutes.",
        "The next point is {}.",
    ),
    "happy": (
        "I am so happy about {}, what a wonderful day!",
        "I love {}, it makes me smile every time.",
        "{} turned out great, we should celebrate!",
        "Thank you, {} is the best present ever.",
        "I had so much fun with {}, it was lovely.",
    ),
    "sad": (
        "I miss {} so much, I could cry.",
        "Nothing is the same since we lost {}.",
        "I feel so alone when I think of {}.",
        "It breaks my heart to say goodbye to {}.",
        "I am sorry, {} just makes me feel empty.",
    ),
    "surprise": (
        "Wait, what? {}, really? I had no idea!",
        "Oh wow, I never expected {}!",
        "No way, {}? Since when?",
        "I cannot believe it, {}, out of nowhere!",
        "Whoa, did you see {}? Amazing!",
    ),
    "fear": (
        "I am scared of {}, please stay with me.",
        "Something about {} terrifies me, let us leave.",
        "What if {} goes wrong? My hands are shaking.",
        "I am afraid to even look at {}.",
        "Be careful with {}, it is dangerous.",
    ),
    "disgust": (
        "Ugh, {} is disgusting, take it away.",
        "{} makes me sick, it smells rotten.",
        "That is gross, I will not touch {}.",
        "How revolting, {} is filthy.",
        "Yuck, who would ever want {}?",
    ),
    "angry": (
        "I am furious about {}, how dare you!",
        "Stop it, I have had enough of {}!",
        "You ruined {}, get out of here!",
        "Do not lie to me about {}, I hate that.",
        "This is outrageous, {} is your fault!",
    ),
}
PLAIN = (
    "So, about {}, you know.",
    "Well, {}, that is what I said.",
    "And then there was {} again.",
    "You heard me, {}.",
    "It is {}, it is always {}.",
)
PLAIN_SHARE = 0.3
"""Share of sentences whose words give nothing away, under every emotion."""


def sentence(corpus: str, emotion: str, generator: np.random.Generator) -> str:
    """Draw a sentence of a corpus for an emotion."""
    topics = TOPICS[corpus]
    topic = topics[int(generator.integers(len(topics)))]
    frames = PLAIN if generator.random() < PLAIN_SHARE else WORDS[emotion]
    text = frames[int(generator.integers(len(frames)))].replace("{}", topic)
    return text[0].upper() + text[1:]
