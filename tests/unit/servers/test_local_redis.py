import pytest

from lima2_core.errors import NotAvailableError
from tango_servers.local import redis
from tango_servers.local.processes import free_port


def test_without_the_wheels_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(redis, "WHEELS", ("no-such-wheel", "no-other-wheel"))

    with pytest.raises(NotAvailableError, match=r"lima2-suite\[redis-server\]"):
        redis.find_redis()


def test_nobody_answers_at_a_free_port():
    assert not redis.redis_answers(free_port())
