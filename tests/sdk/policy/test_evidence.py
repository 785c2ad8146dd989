"""`[targets.cloud.evidence]`: what it may say, what it may not, and that nothing puts a development root in its place."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields

import pytest

from leanto import parse_policy
from leanto.errors import PolicyError, TargetError
from leanto.policy.evidence import NitroEvidence, NvidiaEvidence, SevSnpEvidence, TdxEvidence, hardware_policy
from leanto.policy.overrides import Override
from leanto.remote import RemoteLeg, RemoteTarget
from leanto.remote.configured import choose_cloud, remote_target
from leanto_wire.development import DevelopmentPolicy
from leanto_wire.policies import NitroPolicy, NvidiaRequirement, SevSnpPolicy, TcbVersion, TdxPolicy

H32, H48 = "ab" * 32, "cd" * 48
ROOT = "A" * 43 + "="
TARGET = 'version = 1\n[targets.cloud]\naddress = "127.0.0.1:1"\n'
TCB = "{ bootloader = 4, tee = 0, snp = 22, microcode = 213 }"
TABLES = {
    "sev-snp": f'type = "sev-snp"\nmeasurements = ["{H48}"]\nminimum_tcb = {TCB}\n',
    "tdx": f'type = "tdx"\nmrtd = ["{H48}"]\n',
    "nitro": f'type = "nitro"\npcr0 = ["{H48}"]\n',
}


def policy_text(kind: str, more: str = "") -> str:
    return f"{TARGET}[targets.cloud.evidence]\n{TABLES[kind]}{more}"


def asked(text: str) -> object:
    target = remote_target(parse_policy(text).cloud)
    assert target is not None
    assert target.development_root is None
    return target.evidence


def test_a_sev_snp_table_becomes_the_policy_of_the_wire() -> None:
    more = f'vmpl = 1\nhost_data = "{H32}"\nid_keys = ["{H48}"]\nauthor_keys = ["{H48}"]\nrequire_crl = true\n'
    more += f'releases = ["{H32}"]\nmax_lifetime_s = 60\n'
    more += f'[targets.cloud.evidence.nvidia]\nroots = ["{H32}"]\ndevices = 8\nmodels = ["GH100"]\n'
    raw32, raw48 = bytes.fromhex(H32), bytes.fromhex(H48)
    pins = frozenset({raw48})
    assert asked(policy_text("sev-snp", more)) == SevSnpPolicy(
        pins,
        TcbVersion(4, 0, 22, 213),
        vmpl=1,
        host_data=raw32,
        id_keys=pins,
        author_keys=pins,
        require_crl=True,
        nvidia=NvidiaRequirement(frozenset({raw32}), 8, frozenset({"GH100"})),
        releases=frozenset({raw32}),
        max_lifetime_s=60,
    )


def test_tdx_and_nitro_tables_become_the_policies_of_the_wire() -> None:
    pins = frozenset({bytes.fromhex(H48)})
    more = f'rtmr1 = ["{H48}"]\ntcb_statuses = ["UpToDate", "SWHardeningNeeded"]\n'
    statuses = frozenset({"UpToDate", "SWHardeningNeeded"})
    assert asked(policy_text("tdx", more)) == TdxPolicy(pins, rtmr1=pins, tcb_statuses=statuses)
    assert asked(policy_text("nitro", f'pcr8 = ["{H48}"]\n')) == NitroPolicy(pins, pcr8=pins)


@pytest.mark.parametrize("kind", TABLES)
def test_the_type_and_the_pins_are_part_of_a_policys_hash(kind: str) -> None:
    policy = parse_policy(policy_text(kind))
    assert policy.to_dict()["targets"]["cloud"]["evidence"]["type"] == kind
    assert policy.hash != parse_policy(policy_text(kind).replace("cdcd", "cdce", 1)).hash


@pytest.mark.parametrize("kind", TABLES)
def test_hardware_and_a_development_root_together_are_refused_with_the_line_of_the_root(kind: str) -> None:
    text = policy_text(kind).replace("[targets.cloud.evidence]", f'development_root = "{ROOT}"\n[targets.cloud.evidence]')
    with pytest.raises(PolicyError, match="either development_root or") as caught:
        parse_policy(text)
    assert caught.value.line == 4


@pytest.mark.parametrize("kind", TABLES)
def test_no_override_puts_a_development_root_beside_hardware(kind: str) -> None:
    override = Override(("targets", "cloud", "development_root"), ROOT, "--set targets.cloud.development_root")
    with pytest.raises(PolicyError, match="either development_root or"):
        parse_policy(policy_text(kind), overrides=[override])


@pytest.mark.parametrize("word", ["development", "DEVELOPMENT", "dev", "none", ""])
def test_there_is_no_table_for_the_development_type(word: str) -> None:
    with pytest.raises(PolicyError, match="a development node is named by its root") as caught:
        parse_policy(f'{TARGET}[targets.cloud.evidence]\ntype = "{word}"\ndevelopment_root = "{ROOT}"\n')
    assert caught.value.line == 5


@pytest.mark.parametrize("name", ["development_root", "root", "roots", "development", "debug", "allow_debug"])
@pytest.mark.parametrize("kind", TABLES)
def test_no_name_in_a_table_of_hardware_opens_it_to_debugging_development_or_another_root(kind: str, name: str) -> None:
    with pytest.raises(PolicyError, match="unknown name") as caught:
        parse_policy(policy_text(kind, f'{name} = "{ROOT}"\n'))
    assert caught.value.line is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TARGET + "[targets.cloud.evidence]\n", "needs type"),
        (TARGET + "evidence = 5\n", "expected a table"),
        (TARGET + '[targets.cloud.evidence]\ntype = "tdx"\n', "needs mrtd"),
        (TARGET + '[targets.cloud.evidence]\ntype = "nitro"\n', "needs pcr0"),
        (TARGET + f'[targets.cloud.evidence]\ntype = "sev-snp"\nmeasurements = ["{H48}"]\n', "needs minimum_tcb"),
        (TARGET + '[targets.cloud.evidence]\ntype = "tdx"\nmrtd = ["ab"]\n', "96 hex digits"),
        (TARGET + '[targets.cloud.evidence]\ntype = "tdx"\nmrtd = []\n', "96 hex digits"),
        (policy_text("tdx", 'tcb_statuses = ["Revoked"]\n'), "expected one of"),
        (policy_text("sev-snp").replace("tee = 0, ", ""), "expected { bootloader"),
        (policy_text("sev-snp").replace("tee = 0", "tee = 256"), "from 0 to 255"),
        (policy_text("sev-snp", "[targets.cloud.evidence.nvidia]\ndevices = 1\n"), "needs roots"),
    ],
    ids=range(11),
)
def test_a_mistake_is_named_with_its_line(text: str, words: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(words)) as caught:
        parse_policy(text)
    assert caught.value.line is not None


def test_nitro_pins_of_debug_mode_are_refused_before_anything_is_dialled() -> None:
    with pytest.raises(TargetError, match="debug mode"):
        remote_target(parse_policy(policy_text("nitro").replace(H48, "00" * 48)).cloud)


@pytest.mark.parametrize("kind", TABLES)
def test_a_target_given_in_code_does_not_weaken_a_policy_that_asks_for_hardware(kind: str) -> None:
    configured = parse_policy(policy_text(kind)).cloud
    with pytest.raises(TargetError, match="the policy asks for evidence"):
        choose_cloud(RemoteTarget("127.0.0.1:1", ROOT), configured)


def test_a_target_with_both_or_neither_is_refused_before_anything_is_dialled() -> None:
    evidence = hardware_policy(NitroEvidence(pcr0=(H48,)))
    for target in (RemoteTarget("127.0.0.1:1", ROOT, evidence=evidence), RemoteTarget("127.0.0.1:1")):
        with pytest.raises(TargetError, match="evidence"):
            asyncio.run(RemoteLeg(target).evidence())


def test_a_development_root_becomes_the_development_policy_alone() -> None:
    from leanto.remote.sealed_session import _policy

    assert type(_policy(RemoteTarget("127.0.0.1:1", ROOT))) is DevelopmentPolicy


@pytest.mark.parametrize("table", [SevSnpEvidence, TdxEvidence, NitroEvidence, NvidiaEvidence])
def test_every_name_of_a_table_says_what_it_means(table: type) -> None:
    assert all(item.metadata["doc"] for item in fields(table) if item.name not in ("type", "nvidia"))
