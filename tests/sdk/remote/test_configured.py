from __future__ import annotations

import pytest

from fakes import FakeClock, FakeCloud
from leanto import RemoteTarget, TargetError
from leanto.policy.schema import CloudTarget
from leanto.remote import RemoteLeg, Tls
from leanto.remote.configured import choose_cloud, open_leg, remote_target


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "localhost:5000", "[::1]:5000"])
def test_a_loopback_address_is_dialled_without_tls(address: str) -> None:
    assert remote_target(CloudTarget(address)) == RemoteTarget(address)


def test_any_other_address_is_dialled_with_tls() -> None:
    assert remote_target(CloudTarget("node.example:443")) == RemoteTarget("node.example:443", None, Tls())


def test_given_roots_mean_tls_even_on_loopback() -> None:
    target = remote_target(CloudTarget("127.0.0.1:1", tls_root_certificates="roots.pem"))
    assert target == RemoteTarget("127.0.0.1:1", None, Tls("roots.pem"))


def test_a_client_certificate_means_tls_even_on_loopback() -> None:
    target = remote_target(CloudTarget("127.0.0.1:1", tls_client_certificate="me.pem", tls_client_key="me.key"))
    assert target == RemoteTarget("127.0.0.1:1", None, Tls(client_certificate="me.pem", client_key="me.key"))


def test_the_delay_of_a_hedge_goes_along_in_seconds() -> None:
    target = remote_target(CloudTarget("127.0.0.1:1", hedge_after_ms=250))
    assert target == RemoteTarget("127.0.0.1:1", hedge_after_s=0.25)


def test_a_cloud_given_in_code_comes_before_the_policys() -> None:
    leg, configured = FakeCloud([]), CloudTarget("127.0.0.1:1")
    assert choose_cloud(leg, configured) is leg
    assert choose_cloud(None, configured) == RemoteTarget("127.0.0.1:1")
    assert choose_cloud(None, None) is None


def test_plaintext_beyond_this_machine_is_refused() -> None:
    with pytest.raises(TargetError, match="loopback"):
        choose_cloud(RemoteTarget("192.0.2.1:1"), None)


def test_a_leg_of_ones_own_is_used_as_it_is() -> None:
    leg = FakeCloud([])
    assert open_leg(leg, FakeClock().clock) is leg
    assert isinstance(open_leg(RemoteTarget("127.0.0.1:1"), FakeClock().clock), RemoteLeg)
