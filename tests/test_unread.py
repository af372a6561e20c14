"""Keys of rows that a template does not read: found by rendering, counted, said once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish import ChatTemplate, Conversation, encode
from burnish.config import load_config
from burnish.prepare.check import check
from burnish.prepare.dataset import SFTDataset
from burnish.prepare.ledger import LISTED, OTHERS, Ledger
from burnish.prepare.prepare import prepare
from burnish.prepare.show import show
from burnish.template.build import build_template
from burnish.tokens import Encoded, Fitted, encode_all
from conftest import small_tokenizer
from own_templates import jinja
from test_check import written

NAMES = jinja(r"""
{% for m in messages %}
  {{ '<|' + m.role + '|>' }}
  {% if m.name %}{{ m.name + ': ' }}{% endif %}
  {{ m.content }}
  {% for call in m.tool_calls or [] %}{{ '[' + call.function.name + call.function.arguments | tojson + ']' }}
  {% endfor %}
  {{ '<|end|>' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
""")
PLAIN = NAMES.replace("{% if m.name %}{{ m.name + ': ' }}{% endif %}", "")
DUMPS = "{% for m in messages %}{{ m | tojson }}{{ '<|end|>' }}{% endfor %}"
STRICT = PLAIN.replace(
    "{{ '<|' + m.role",
    "{% if m.role == 'tool' and not m.tool_call_id %}{{ raise_exception('no id') }}"
    "{% endif %}{{ '<|' + m.role",
)

ASK = {"role": "user", "content": "What is 1 + 1?", "name": "Ann"}
SAY = {"role": "assistant", "content": "2."}
CALL = {"type": "function", "id": "a1", "index": 0, "function": {"name": "add", "arguments": {"a": 1}}}
CALLS = [
    {"role": "user", "content": "What is 1 + 1?", "lang": "en"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "2", "tool_call_id": "a1"},
    SAY,
]


def unread(source: str, messages: list[dict[str, Any]], **more: Any) -> set[str]:
    template = ChatTemplate(small_tokenizer(), source_text=source)
    return set(template.unread(Conversation.from_messages(messages, **more)))


def test_a_name_is_read_by_a_template_that_writes_it() -> None:
    assert unread(NAMES, [ASK, SAY]) == set()
    assert unread(PLAIN, [ASK, SAY]) == {"'name' of user messages"}
    assert unread(PLAIN, [ASK, SAY | {"name": "Bo", "lang": "en"}]) == {
        "'name' of user messages",
        "'name' of assistant messages",
        "'lang' of assistant messages",
    }


def test_a_template_that_writes_all_of_a_message_reads_all_of_it() -> None:
    assert unread(DUMPS, [ASK | {"lang": "en"}, SAY]) == set()


def test_what_a_template_refuses_to_go_without_is_read() -> None:
    others = {"'lang' of user messages", "'id' of tool calls", "'index' of tool calls"}
    assert unread(PLAIN, CALLS) == {*others, "'tool_call_id' of tool messages"}
    assert unread(STRICT, CALLS) == others


def test_keys_of_tools_are_asked_for_too() -> None:
    tool = {"type": "function", "strict": True, "function": {"name": "add", "returns": {"type": "number"}}}
    assert unread(PLAIN, [ASK, SAY], tools=[tool]) >= {"'strict' of tools", "'returns' of tools"}
    writes = "{{ tools | tojson }}" + PLAIN
    assert unread(writes, [ASK, SAY], tools=[tool]) == {"'name' of user messages"}


def test_rows_of_one_shape_are_rendered_for_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate(small_tokenizer(), source_text=PLAIN)
    renderings: list[Any] = []
    render = template.render
    monkeypatch.setattr(
        template, "render", lambda *given, **more: renderings.append(given) or render(*given, **more)
    )
    for text in ("a", "b", "c"):
        assert template.unread(Conversation.from_messages([ASK | {"content": text}, SAY]))
    assert template.unread(Conversation.from_messages([{"role": "user", "content": "d"}, SAY])) == ()
    assert len(renderings) == 2


@pytest.mark.parametrize("source", [PLAIN, NAMES, DUMPS])
def test_many_keys_take_few_renderings(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate(small_tokenizer(), source_text=source)
    renderings: list[Any] = []
    render = template.render
    monkeypatch.setattr(
        template, "render", lambda *given, **more: renderings.append(given) or render(*given, **more)
    )
    many = {f"key {number}": number for number in range(2000)}
    found = template.unread(Conversation.from_messages([ASK | many, SAY]))
    assert len(found) == {PLAIN: 2001, NAMES: 2000, DUMPS: 0}[source]
    assert len(renderings) < 60


def test_a_key_that_is_not_read_changes_no_token() -> None:
    template = ChatTemplate(small_tokenizer(), source_text=PLAIN)
    plain = {key: value for key, value in ASK.items() if key != "name"}
    (one,), (other,) = (encode(Conversation.from_messages([m, SAY]), template) for m in (ASK, plain))
    assert (one.input_ids, one.loss_mask) == (other.input_ids, other.loss_mask)
    (encoded,) = encode_all([Conversation.from_messages([ASK, SAY])], template)
    assert encoded.unread == ("'name' of user messages",)


ROWS = [{"messages": [ASK, SAY], "id": 1}, {"messages": [ASK, SAY, ASK, SAY], "id": 2}, {"text": "The sea."}]
COUNTS = {"'id' of rows": 2, "'name' of user messages": 2}


def test_the_ledger_counts_the_rows_and_the_screen_says_it_once(tmp_path: Path) -> None:
    from burnish.adapters.load import load_tokenizer

    config = load_config(
        None, [], **{"data.train": [str(written(tmp_path, ROWS))], "data.held_out_share": 0.0}
    )
    loaded = load_tokenizer("pebble")
    template, _ = build_template(loaded.tokenizer, config.template)
    for _ in ("made", "taken from the cache"):
        data = prepare(config, template, loaded.positions)
        assert data.ledger.as_rows(data.train)[-1]["not_read"] == COUNTS
        said = data.ledger.in_words(data.train)
        assert said.endswith("Not read: 'id' of rows (2 rows), 'name' of user messages (2 rows).")
    assert SFTDataset(ROWS, template).ledger.unread == COUNTS
    found, _ = check(config)
    assert found.ledger.unread == COUNTS
    (shown, *_), _ = show(config)
    assert shown.notes == ("not read: 'id' of rows", "not read: 'name' of user messages")


def test_many_keys_are_counted_beyond_the_first(tmp_path: Path) -> None:
    template = ChatTemplate(small_tokenizer(), source_text=PLAIN)
    made = SFTDataset([{"messages": [ASK, SAY], f"key {n}": 1} for n in range(20)], template)
    assert len(made.ledger.unread) == 21
    assert "and 13 more keys" in made.ledger.in_words(_table())


def test_no_file_fills_the_memory_with_its_keys() -> None:
    ledger = Ledger()
    for number in range(3000):
        ledger.note_fitted(Fitted(()), Encoded(Conversation(()), unread=(f"'key {number}' of rows",)))
    assert len(ledger.unread) == LISTED + 1
    assert ledger.unread[OTHERS] == 3000 - LISTED


def _table() -> Any:
    from burnish.tokens import TokenTable

    return TokenTable.from_documents([])


def test_the_ledger_is_json(tmp_path: Path) -> None:
    template = ChatTemplate(small_tokenizer(), source_text=PLAIN)
    made = SFTDataset(ROWS, template)
    assert json.loads(json.dumps(made.ledger.as_rows(_table())))[-1]["not_read"] == COUNTS
