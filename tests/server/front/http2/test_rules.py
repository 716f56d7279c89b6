"""Every rule of RFC 9113 and RFC 7541 for servers: each row is its own connection."""

from __future__ import annotations

import pytest

from tests.server.front.http2 import rules_of_frames, rules_of_messages, rules_of_types
from tests.server.front.http2.driven import exchanged, outcome
from tests.server.front.http2.rules import Rule

RULES = [*rules_of_frames.RULES, *rules_of_types.RULES, *rules_of_types.OVERRUNS, *rules_of_messages.RULES]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rule(rule: Rule) -> None:
    """The server does what the section says."""
    found = outcome(exchanged(rule.begun, *rule.sent).frames)

    assert found == rule.outcome
