"""What pebble knows: relations between entities and answers, and the words that state and ask them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One kind of fact, as a table of (entity, answer) and the templates that put it into words.

    Templates use ``{entity}`` and ``{answer}``; ``{Entity}``, ``{Answer}`` where a sentence starts with
    one; ``{an_entity}``, ``{an_answer}``, ``{An_entity}``, ``{An_answer}`` with the indefinite article.

    * ``statements``: six or more plain sentences. The first ends in ``{answer}.``: what stands before
      the answer there is the cloze prompt ("The capital of France is" -> Paris).
    * ``questions``: five or more wordings of the question whose answer is ``{answer}``.
    * ``reply``: the one sentence in which the data set answers all of them.
    """

    name: str
    table: tuple[tuple[str, str], ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    reply: str

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(Fact(self, entity, answer) for entity, answer in self.table)


@dataclass(frozen=True)
class Fact:
    """One row of a relation's table, able to say itself."""

    relation: Relation
    entity: str
    answer: str

    def fill(self, template: str) -> str:
        return template.format(
            entity=self.entity,
            answer=self.answer,
            Entity=capitalised(self.entity),
            Answer=capitalised(self.answer),
            an_entity=with_article(self.entity),
            an_answer=with_article(self.answer),
            An_entity=capitalised(with_article(self.entity)),
            An_answer=capitalised(with_article(self.answer)),
        )

    @property
    def statements(self) -> tuple[str, ...]:
        return tuple(self.fill(template) for template in self.relation.statements)

    @property
    def questions(self) -> tuple[str, ...]:
        return tuple(self.fill(template) for template in self.relation.questions)

    @property
    def reply(self) -> str:
        return self.fill(self.relation.reply)

    @property
    def cloze(self) -> str:
        """The first statement up to the answer, without the space before it."""
        statement = self.relation.statements[0]
        assert statement.endswith((" {answer}.", " {an_answer}.")), statement
        head = statement.removesuffix(" {answer}.")
        if head == statement:
            head = statement.removesuffix("{an_answer}.") + with_article(self.answer).split()[0]
        return self.fill(head)


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """``a`` or ``an`` before a noun, by its first letter; the tables avoid words that break the rule."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
