"""Chat templates of our own, in shapes that are met in the wild and may be absent from the shared material,
and in shapes made to lose something.

Written for reading: ``jinja`` takes out the line breaks and the spaces that begin lines, so that only what
stands between quotes and on one line is written.
"""

from __future__ import annotations


def jinja(source: str) -> str:
    return "".join(line.strip() for line in source.splitlines())


_GLM = r"""
{{ '[gMASK]<sop>' }}
{% if tools %}
  {{ '<|system|>\n# Tools\n' }}
  {% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor %}
{% endif %}
{% set ns = namespace(asked=-1) %}
{% for m in messages %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}
{% for m in messages %}
  {% if m.role == 'user' %}{{ '<|user|>BREAK' + m.content }}
  {% elif m.role == 'system' %}{{ '<|system|>BREAK' + m.content }}
  {% elif m.role == 'tool' %}
    {% if loop.previtem.role != 'tool' %}{{ '<|observation|>' }}{% endif %}
    {{ 'BREAK<tool_response>\n' + m.content + '\n</tool_response>' }}
  {% elif m.role == 'assistant' %}
    {{ '<|assistant|>' }}
    {% set thought = m.reasoning_content if loop.index0 > ns.asked %}
    {% if thought %}{{ 'BREAK<think>' + thought + '</think>' }}
    {% else %}{{ 'BREAKEMPTY' }}{% endif %}
    {% if m.content %}{{ 'BREAK' + m.content }}{% endif %}
    {% for call in m.tool_calls or [] %}
      {{ 'BREAK<tool_call>' + call.function.name + 'BREAK' }}
      {% for key, value in call.function.arguments.items() %}
        {{ '<arg_key>' + key + '</arg_key>BREAK<arg_value>' }}
        {{ value if value is string else value | tojson }}{{ '</arg_value>BREAK' }}
      {% endfor %}
      {{ '</tool_call>' }}
    {% endfor %}
  {% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>OPENS' }}{% endif %}
"""
"""A turn ends where the next begins: at ``<|user|>``, after a call at ``<|observation|>``."""

_CHATGLM = r"""
{{ '[gMASK]sop' }}
{% if tools %}
  {{ '<|system|>\n Answer with these tools:\n' }}
  {% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor %}
{% endif %}
{% for m in messages %}
  {% if m.role == 'tool' %}{{ '<|observation|>\n ' + m.content }}
  {% elif m.role == 'assistant' and m.tool_calls %}
    {% for call in m.tool_calls %}
      {{ '<|assistant|>' + call.function.name + '\n ' + (call.function.arguments | tojson) }}
    {% endfor %}
  {% else %}{{ '<|' + m.role + '|>\n ' + m.content }}
  {% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""
"""Behind the role stands metadata, the name of a tool or nothing, and a line break: all of it is said."""

_GPT_OSS = r"""
{{ '<|start|>system<|message|>Valid channels: analysis, commentary, final.<|end|>' }}
{% if tools or messages[0].role == 'system' %}
  {{ '<|start|>developer<|message|>' }}
  {% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}
  {% if tools %}{{ '\n# Tools\n' }}
    {% for tool in tools %}
      {{ '// ' + tool.function.description + '\ntype ' + tool.function.name + ' = (_: {' }}
      {% for key, value in tool.function.parameters.properties.items() %}
        {{ '\n// ' + value.description + '\n' + key + ': ' + value.type + ',' }}
      {% endfor %}
      {{ '\n}) => any;\n' }}
    {% endfor %}
  {% endif %}
  {{ '<|end|>' }}
{% endif %}
{% set ns = namespace(called='') %}
{% for m in messages %}
  {% if m.role == 'user' %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}
  {% elif m.role == 'tool' %}
    {{ '<|start|>functions.' + ns.called + ' to=assistant<|channel|>commentary<|message|>' }}
    {{ m.content | tojson }}{{ '<|end|>' }}
  {% elif m.role == 'assistant' %}
    {% set thought = m.reasoning_content or m.thinking %}
    {% if thought and (loop.last or m.tool_calls) %}
      {{ '<|start|>assistant<|channel|>analysis<|message|>' + thought + '<|end|>' }}
    {% endif %}
    {% if m.tool_calls %}
      {% if m.content %}
        {{ '<|start|>assistant<|channel|>commentary<|message|>' + m.content + '<|end|>' }}
      {% endif %}
      {% set call = m.tool_calls[0].function %}
      {% set ns.called = call.name %}
      {{ '<|start|>assistant<|channel|>commentary to=functions.' + call.name }}
      {{ ' <|constrain|>json<|message|>' }}
      {{ call.arguments | tojson }}{{ '<|call|>' }}
    {% else %}
      {{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}
      {{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
    {% endif %}
  {% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}
"""
"""Channels, one call a message, and a turn that ends otherwise when it is past."""

_COMMAND_R = r"""
{{ bos_token }}
{% set ns = namespace(told='') %}
{% if messages[0].role == 'system' %}{% set ns.told = messages[0].content %}{% endif %}
{% if ns.told or tools %}
  {{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + ns.told }}
  {% if tools %}{{ '\n## Available Tools\n' }}
    {% for tool in tools %}
      {{ '```python\ndef ' + tool.function.name + '(' }}
      {{ tool.function.parameters.properties.keys() | join(', ') }}
      {{ '):\n    # ' + tool.function.description + '\n' }}
      {% for key, value in tool.function.parameters.properties.items() %}
        {{ '    # ' + key + ': ' + value.description + '\n' }}
      {% endfor %}
      {{ '```\n' }}
    {% endfor %}
  {% endif %}
  {{ '<|END_OF_TURN_TOKEN|>' }}
{% endif %}
{% for m in messages %}
  {% if m.role == 'user' %}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + m.content + '<|END_OF_TURN_TOKEN|>' }}
  {% elif m.role == 'tool' %}
    {{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><results>\n' + m.content + '</results><|END_OF_TURN_TOKEN|>' }}
  {% elif m.role == 'assistant' and m.tool_calls %}
    {{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' + m.content + '\nAction: ```json\n[\n' }}
    {% for call in m.tool_calls %}
      {{ '    {"tool_name": "' + call.function.name + '", "parameters": ' }}
      {{ call.function.arguments | tojson }}{{ '}' + ('' if loop.last else ',') + '\n' }}
    {% endfor %}
    {{ ']```\n' }}
  {% elif m.role == 'assistant' %}
    {{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' + m.content + '<|END_OF_TURN_TOKEN|>' }}
  {% endif %}
{% endfor %}
TOLD
{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}
"""
"""Command-R's calls: an answer ends in a token, a call in nothing."""

_TOLD = r"""
{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Write \'Action:\' and a list of calls.<|END_OF_TURN_TOKEN|>' }}
"""
"""Command-R+'s ``tool_use`` says so behind the last message, whoever spoke."""

_MISTRAL = r"""
{{ bos_token }}
{% for m in messages %}
  {% if m.role in ['user', 'system'] %}
    {% if tools and loop.first %}
      {{ '[AVAILABLE_TOOLS]' }}{{ tools | tojson }}{{ '[/AVAILABLE_TOOLS]' }}
    {% endif %}
    {{ '[INST]' + m.content + '[/INST]' }}
  {% elif m.role == 'tool' %}
    {% if m.tool_call_id | length != 9 %}{{ raise_exception('ids of calls have nine characters') }}{% endif %}
    {{ '[TOOL_RESULTS]' + m.content + '[CALL_ID]' + m.tool_call_id + '[/TOOL_RESULTS]' }}
  {% elif m.tool_calls %}
    {{ m.content + '[TOOL_CALLS][' }}
    {% for call in m.tool_calls %}
      {% if call.id | length != 9 %}{{ raise_exception('ids of calls have nine characters') }}{% endif %}
      {{ '{"name": "' + call.function.name + '", "arguments": ' }}{{ call.function.arguments | tojson }}
      {{ ', "id": "' + call.id + '"}' + ('' if loop.last else ', ') }}
    {% endfor %}
    {{ ']' + eos_token }}
  {% else %}{{ m.content + eos_token }}
  {% endif %}
{% endfor %}
"""
"""Refuses ids of calls that have not nine characters, and writes those that have."""

_TURNS = """
{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""

_CALLS = r"""
{% if tools %}{{ '<|system|>TOOLS<|end|>' }}{% endif %}
{% for m in messages %}
  {{ '<|' + m.role + '|>' }}
  {% if m.reasoning_content %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n' }}{% endif %}
  {{ m.content }}
  {% for call in CALLS %}
    {{ '<tool_call>\n' }}{{ call.function | tojson }}{{ '\n</tool_call>' }}
  {% endfor %}
  {{ '<|end|>' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""
_ALL_TOOLS = "' }}{{ tools | tojson }}{{ '"
_ALL_CALLS = "m.tool_calls or []"


def _calls(tools: str = _ALL_TOOLS, calls: str = _ALL_CALLS) -> str:
    return jinja(_CALLS.replace("TOOLS", tools).replace("CALLS", calls))


def _glm(line_break: str, empty: str, opens: str) -> str:
    source = jinja(_GLM.replace("EMPTY", empty).replace("OPENS", opens))
    return source.replace("BREAK", line_break)


def _headed(asked: str, header: str, prompt: str = "", end: str = "' + eos_token + '") -> str:
    """``header`` before each answer, ``prompt`` of it as the generation prompt."""
    return jinja(
        "{% for m in messages %}"
        "{% if m.role == 'user' %}{{ '" + asked + "' + m.content + '\\n' }}"
        "{% elif m.role == 'assistant' %}{{ '" + header + "' + m.content + '" + end + "' }}"
        "{% else %}{{ m.content + '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '" + prompt + "' }}{% endif %}"
    )


OWN = {
    "glm-4.5": _glm("\\n", "<think></think>", ""),
    "glm-4.7": _glm("", "</think>", "<think>"),
    "chatglm3": jinja(_CHATGLM),
    "gpt-oss": jinja(_GPT_OSS),
    "command-r": jinja(_COMMAND_R.replace("TOLD", "")),
    "command-r+": jinja(_COMMAND_R.replace("TOLD", _TOLD)),
    "mistral": jinja(_MISTRAL),
    # Headers of an answer, asked for or not
    "falcon": _headed("User: ", "Falcon: ", "Falcon:", "\\n"),
    "falcon, unasked": _headed("User: ", "Falcon: "),
    "answer": _headed("### Question: ", "### Answer: "),
    "output": _headed("Input: ", "Output: "),
    "chinese": _headed("\u95ee\uff1a", "\u7b54\uff1a"),
    "bare token": _headed("<|ask|>", "<|reply|>", "", "<|end|>"),
    "half of a header": _headed("<|ask|>", "<|reply|>Output: ", "<|reply|>", "<|end|>"),
    # What they lose
    "all kept": _calls(),
    "first call": _calls(calls="(m.tool_calls or [])[:1]"),
    "last call": _calls(calls="(m.tool_calls or [])[-1:]"),
    "last function's call": _calls(
        calls="(m.tool_calls or []) | groupby('function.name') | map('last') | map('last')"
    ),
    "no past calls": _calls(calls="((m.tool_calls or []) if loop.last else [])"),
    "no tools": _calls(tools="Call what you are told to."),
    "names of tools": _calls(tools="' }}{{ tools | map(attribute='function.name') | join(', ') }}{{ '"),
    "first tool": _calls(tools="' }}{{ tools[:1] | tojson }}{{ '"),
    "reasoning unless in the answer": _calls().replace(
        "{% if m.reasoning_content %}",
        "{% if m.reasoning_content and m.reasoning_content not in m.content %}",
    ),
    "reasoning of the last": _calls().replace(
        "{% if m.reasoning_content %}", "{% if m.reasoning_content and loop.last %}"
    ),
    "empty block": jinja(
        _TURNS.replace(
            "+ m.content", r"+ ('<think>\n\n</think>\n\n' if m.role == 'assistant' else '') + m.content"
        )
    ),
    # Contents given as parts
    "parts, joined": jinja(_TURNS.replace("m.content", "PARTS")).replace(
        "PARTS", "(m.content if m.content is string else m.content | map(attribute='text') | join)"
    ),
    "parts, a line each": jinja(_TURNS.replace("m.content", "PARTS")).replace(
        "PARTS", "(m.content if m.content is string else m.content | map(attribute='text') | join('\\n'))"
    ),
    "first part": jinja(_TURNS.replace("m.content", "PARTS")).replace(
        "PARTS", "(m.content if m.content is string else m.content[0].text)"
    ),
}
"""Name -> source."""

WITH_MARKERS = ("glm-4.5", "glm-4.7", "chatglm3", "gpt-oss", "command-r", "command-r+", "bare token")
"""Those whose markers are not pebble's own."""
