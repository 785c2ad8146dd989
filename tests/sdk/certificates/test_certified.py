from __future__ import annotations

import base64
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import leanto_edge
from leanto import Client, Decision
from leanto.certificates.certificate import Certificate, Point, sign
from leanto.certificates.certified import Certified, score_name
from leanto.decision import SAMPLED, Promise
from leanto.errors import PolicyError
from leanto.ledger import Ledger
from leanto.policy import Verdict, judge_answer, judge_certificate, load_policy, parse_policy
from leanto.policy.reader import default_policy
from leanto.policy.schema import CloudTarget

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
INFO = leanto_edge.load(leanto_edge.embedded()).info
DAY = 86_400


def certified(
    folder: Path, *, threshold: float = 0.1, build: str = INFO.build_hash, cloud: str = "big", key: Ed25519PrivateKey = KEY, days: float = 1
) -> str:
    now = time.time()
    points = (Point(0.05, threshold, 0.5, 0.04),)
    score = score_name(INFO.confidence["call"])
    certificate = Certificate("call", build, cloud, score, "disagreement", 0.05, 3000, points, now - 10 * DAY, now + days * DAY)
    (folder / "call.json").write_text(sign(certificate, key))
    (folder / "p.toml").write_text(
        f'version = 1\n[quality]\ncertificates = ["call.json"]\ncertificate_key = "{PUBLIC}"\nuncertified = "cloud"\n'
        '[targets.cloud]\naddress = "127.0.0.1:1"\nmodel = "big"\n[privacy]\ndefault = "secret"\n'
    )
    return str(folder / "p.toml")


def asked(policy: str, prompt: str = "wake me up at six") -> Decision:
    with Client(policy=policy) as client:
        return client.ask(prompt).decision


def test_an_answer_above_the_certified_threshold_says_so(tmp_path: Path) -> None:
    decision = asked(certified(tmp_path))
    check = next(check for check in decision.checks if check.stage == "certificate")
    assert (check.name, check.threshold, check.verdict) == ("confidence", 0.1, "pass")
    assert check.value == decision.confidence
    assert "certified" in decision.labels


def test_one_below_it_stays_only_because_it_is_private(tmp_path: Path) -> None:
    decision = asked(certified(tmp_path, threshold=1.0))
    check = next(check for check in decision.checks if check.stage == "certificate")
    assert check.verdict == "waived"
    assert "below-certificate" in decision.labels


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"build": "0" * 64}, "it is for the build"),
        ({"cloud": "small"}, "it is for the cloud model 'small'"),
        ({"days": -1}, "it expired"),
        ({"key": Ed25519PrivateKey.from_private_bytes(bytes(32))}, "not signed by the pinned key"),
    ],
)
def test_a_certificate_that_does_not_hold_counts_as_none(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    decision = asked(certified(tmp_path, **change))  # type: ignore[arg-type]
    check = next(check for check in decision.checks if check.stage == "certificate")
    assert (check.name, check.value, check.verdict) == ("certificate", False, "waived")
    assert reason in check.reason
    assert "uncertified" in decision.labels


def test_a_missing_file_counts_as_none(tmp_path: Path) -> None:
    policy = certified(tmp_path)
    (tmp_path / "call.json").unlink()
    check = next(check for check in asked(policy).checks if check.stage == "certificate")
    assert "call.json: it cannot be read" in check.reason


@pytest.mark.parametrize(
    ("cloud", "reason"),
    [("another", "it is for the cloud model 'pocket-large"), (None, "the cloud's model is not known yet")],
)
def test_by_default_a_certificate_that_does_not_hold_leaves_the_decision_to_the_confidence_and_says_so(
    cloud: str | None, reason: str
) -> None:
    policy = replace(default_policy(), cloud=CloudTarget("127.0.0.1:1", model=cloud))
    with Client(policy=policy) as client:
        answered, planned = client.ask("wake me up at six", private=True).decision, client.explain("wake me up at six")
    for decision in (answered, planned):
        (check,) = [check for check in decision.checks if check.stage == "certificate"]
        assert (check.name, check.value, check.threshold, check.verdict) == ("certificate", False, None, "pass")
        assert check.reason.startswith(f"no certificate: {reason}")
        assert "uncertified" in decision.labels
    assert "confident" in answered.labels


def test_without_a_cloud_there_is_nothing_to_certify() -> None:
    with Client() as client:
        decision = client.ask("wake me up at six").decision
    assert decision.promise == Promise(why_not="there is no cloud to compare with")
    told = [(check.verdict, check.reason) for check in decision.checks if check.stage == "certificate"]
    assert told == [("skipped", "there is no cloud to compare with")]


def test_a_sampled_answer_has_no_promise(tmp_path: Path) -> None:
    with Client(policy=certified(tmp_path)) as client:
        greedy, sampled = (client.ask("wake me up at six", temperature=at, seed=0).decision for at in (0.0, 0.01))
    assert "certified" in greedy.labels
    assert sampled.promise == Promise(why_not=SAMPLED, named=True)
    assert "uncertified" in sampled.labels
    assert SAMPLED in next(check for check in sampled.checks if check.stage == "certificate").reason


def test_a_certificate_that_was_replaced_counts_from_the_next_request_on(tmp_path: Path) -> None:
    with Client(policy=certified(tmp_path, threshold=0.1)) as client:

        def threshold() -> float | None:
            promise = client.ask("wake me up at six").decision.promise
            return promise.threshold if promise else None

        found = [threshold()]
        (tmp_path / "call.json").unlink()
        found.append(threshold())
        certified(tmp_path, threshold=0.25)
        found.append(threshold())
    assert found == [0.1, None, 0.25]


def test_the_embedded_pair_carries_a_promise_that_the_shipped_policy_accepts() -> None:
    (carried,) = INFO.certificates
    large = leanto_edge.load(leanto_edge.embedded_large()).info
    issued = datetime.fromisoformat(carried["issued_at"]).timestamp()
    held, cloud = Certified(Ledger()), f"{large.name}@{large.build_hash}"
    promise = held.promise(default_policy(), INFO, "call", cloud, issued)
    assert (promise.alpha, promise.delta, promise.threshold) == (0.05, 0.05, carried["points"][0]["threshold"])
    assert held.promise(default_policy(), INFO, "call", "other@0", issued).threshold is None
    assert held.promise(default_policy(), INFO, "text", cloud, issued).threshold is None
    assert "expired" in held.promise(default_policy(), INFO, "call", cloud, issued + 1000 * DAY).why_not


def test_a_certificate_that_was_changed_in_the_model_counts_as_none() -> None:
    (carried,) = INFO.certificates
    forged = replace(INFO, certificates=({**carried, "delta": 0.01},))
    found = Certified(Ledger()).promise(default_policy(), forged, "call", carried["cloud_model"], time.time())
    assert found.threshold is None
    assert "the model's certificate 1: it is not signed by the pinned key" in found.why_not


def test_a_certified_threshold_stands_in_for_the_models_own_but_not_for_the_users() -> None:
    own = judge_answer(parse_policy("version = 1\n"), Verdict(), "call", 0.5, 0.9, Promise(0.4))
    assert (own.start, own.checks[-1].verdict) == ("local", "pass")
    users = parse_policy("version = 1\n[quality.confidence_threshold]\ncall = 0.9\n")
    assert judge_answer(users, Verdict(), "call", 0.5, 0.9, Promise(0.4)).start == "cloud"


def test_without_certificates_a_policy_goes_by_confidence_alone() -> None:
    policy = parse_policy("version = 1\n")
    assert judge_certificate(policy, Verdict(), 0.0, Promise()) == Verdict()
    lean = parse_policy('version = 1\n[quality]\nuncertified = "cloud"\n')
    assert judge_certificate(lean, Verdict(), 1.0, Promise()).allowed == ("cloud",)


@pytest.mark.parametrize(("confidence", "allowed"), [(0.69, ("cloud",)), (0.7, ("local", "cloud")), (float("nan"), ("cloud",))])
def test_the_certified_threshold_only_narrows(confidence: float, allowed: tuple[str, ...]) -> None:
    assert judge_certificate(parse_policy("version = 1\n"), Verdict(), confidence, Promise(0.7)).allowed == allowed


def test_certificates_without_a_key_are_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('version = 1\n[quality]\ncertificates = ["a"]\n')
    with pytest.raises(PolicyError, match="give the certificate_key") as caught:
        load_policy(tmp_path / "p.toml")
    assert caught.value.line == 3
