"""A chat template does what it does in transformers, and neither escapes nor runs away."""

import datetime as dt

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from manyhands.errors import CheckpointError, UserError
from manyhands.store import template_sandbox
from manyhands.store.chat_template import ChatTemplate

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Schön & <b>"quoted"</b>\n  two'},
    {"role": "assistant", "content": "1"},
]


def rendered(source, messages=CHAT, now=None, **variables):
    template = ChatTemplate(source)
    return template.render(messages, add_generation_prompt=True, now=now, **variables)


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}\n  {% if loop.first %}first{% endif %}"
        "\n{{ m.content }}\n{% endfor %}",
        "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{% endfor %}",
        "{% for m in messages %}"
        "{{ loop.previtem.role if loop.previtem }}{{ loop.nextitem }}{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}"
        "{{ m.role }}{% break %}{% endfor %}",
        "{% for m in messages if m.role != 'system' %}{{ m['content'] | trim }}{% else %}"
        "none{% endfor %}",
        "{% for k, v in messages[0].items() %}{{ k ~ '=' ~ v ~ 1 }}{% endfor %}",
        "{% for i in range(3) %}{{ i * 2 + 1 }}{{ 'ab' * i }}{{ '%s|%5d' % (i, i) }}{% endfor %}",
        "{% for c in 'abc' recursive %}{{ c }}{% if c == 'a' %}"
        "{{ loop('xy') }}{% endif %}{% endfor %}",
        "{{ messages | tojson }}{{ messages[1] | tojson(indent=2) }}",
        "{{ messages[1].content | replace('o', '00') | indent(4) | upper }}",
        "{{ messages[1].content.replace('o', 'é').split('\\n') | join('+') }}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
        "{% endfor %}{{ ns.n }}",
        "{% macro say(x) %}<{{ x }}>{% endmacro %}{{ say('a') }}{{ say(messages[2].content) }}",
        "{% generation %}{{ messages[2].content }}{% endgeneration %}!",
        "{{ missing }}{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first }}",
        "{{ '{} {:>4} {0}'.replace('{0}', '').format('a', 7) }}",
        "{{ messages | length }}{{ messages[-1:] }}{{ messages[0].content[:2].ljust(6) }}|",
        "{{ bos_token }}{{ strftime_now('') }}",
    ],
)
def test_a_template_renders_as_in_transformers(source):
    (expected,), _ = render_jinja_template(
        conversations=[CHAT], chat_template=source, add_generation_prompt=True, bos_token="<s>"
    )
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert rendered(source, now=now, bos_token="<s>") == expected


def test_the_date_is_the_one_given_and_never_a_clock_s():
    now = dt.datetime(2031, 2, 3, tzinfo=dt.UTC)
    assert rendered("{{ strftime_now('%d %b %Y') }}", now=now) == "03 Feb 2031"
    with pytest.raises(UserError, match="now"):
        rendered("{{ strftime_now('%d %b %Y') }}")


def test_a_refusal_of_the_template_reaches_the_user_in_its_words():
    with pytest.raises(UserError, match="roles must alternate"):
        rendered("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__ }}",
        "{{ messages|attr('__class__')|attr('__base__') }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__self__._steps }}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update(role='user') }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ missing.attribute }}",
        "{{ 1 // 0 }}",
        "{{ messages[0] + 1 }}",
        "{{ messages['x'].y }}",
        "{{ 7() }}",
    ],
)
def test_an_escape_or_a_mistake_is_a_typed_error_or_nothing(source):
    try:
        text = rendered(source)
    except UserError:
        return
    assert "class" not in text
    assert "os" not in text


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{{ range(99999) | sum }}{% endfor %}",
        "{{ range(10 ** 9) | list }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(n) %}{% if n %}{% set x = f(n - 1) + f(n - 1) %}{% endif %}"
        "{% endmacro %}{{ f(99) }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}"
        "{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}"
        "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}"
        "{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(n=3) %}{% for i in range(60) %}"
        "{% set ns.n = ns.n * ns.n %}{% endfor %}",
        "{% set s = 'a' * 100000 %}{{ s.replace('a', s) }}",
        "{% set s = 'a' * 100000 %}{{ s | replace('a', s) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 999999999) }}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ 'a\nb' | indent(10 ** 9) }}",
        "{{ [1] | tojson(indent=10 ** 9) }}",
        "{% for i in range(90000) %}{{ 'a' * 1000 }}{% endfor %}",
    ],
)
def test_a_template_that_runs_away_is_stopped(source):
    with pytest.raises(UserError):
        rendered(source)


def test_the_budget_is_what_stops_an_endless_loop(monkeypatch):
    source = "{% for a in range(100) %}{% for b in range(100) %}{% endfor %}{% endfor %}done"
    assert rendered(source) == "done"
    monkeypatch.setattr(template_sandbox, "MOST_STEPS", 5000)
    with pytest.raises(UserError, match="5000 steps"):
        rendered(source)


def test_the_budget_is_new_for_each_rendering(monkeypatch):
    monkeypatch.setattr(template_sandbox, "MOST_STEPS", 20)
    template = ChatTemplate("{% for m in messages %}{{ m.role }}{% endfor %}")
    for _ in range(20):
        template.render(CHAT, add_generation_prompt=False, now=None)


@pytest.mark.parametrize(
    "source",
    [
        "{% for %}",
        "{{ ",
        "{% unknown %}",
        "{{ x | nofilter }}",
        "{% generation %}",
        "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
        "{% for a in b %}" * 50 + "{% endfor %}" * 50,
        "x" * (512 * 1024 + 1),
    ],
)
def test_a_template_that_does_not_compile_is_a_typed_error(source):
    with pytest.raises(CheckpointError, match="template"):
        ChatTemplate(source)


@pytest.mark.parametrize("messages", [[{"role": object()}], ["text"], [7], [{1: {2}}]])
def test_messages_that_are_no_plain_data_are_refused(messages):
    with pytest.raises(UserError, match="messages"):
        rendered("{{ messages }}", messages)


def test_the_messages_given_are_not_the_ones_the_template_sees():
    message = {"role": "user", "content": "x"}
    rendered("{% set messages = [] %}", [message])
    assert message == {"role": "user", "content": "x"}
