"""A conversation with a model, turn by turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from burnish.data import Conversation, Message
from burnish.generate.answers import Answer, Sampling, generate
from burnish.template import ChatTemplate
from burnish.tokens import token_ids


@dataclass
class ChatSession:
    """Keeps the messages so far. ``say`` answers through the same template that training used."""

    model: PreTrainedModel
    template: ChatTemplate
    sampling: Sampling = Sampling()
    system: str | None = None
    messages: list[Message] = field(default_factory=list)

    def say(self, text: str, stream: Callable[[str], None] | None = None) -> Answer:
        """Add a user turn and the model's answer to it. A turn that fails leaves no trace."""
        system = [Message("system", self.system)] if self.system else []
        asked = [*self.messages, Message("user", text)]
        prompt = self.template.prompt(Conversation((*system, *asked)))
        tokenizer = self.template.tokenizer
        (answer,) = generate(
            self.model,
            tokenizer,
            [token_ids(tokenizer, prompt)],
            self.template.stop_ids,
            self.sampling,
            stream=stream,
        )
        self.messages = [*asked, Message("assistant", answer.text)]
        return answer

    def forget(self) -> None:
        self.messages = []
