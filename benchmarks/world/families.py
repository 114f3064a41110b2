"""The art families of the world: who drew them, what each may be used for, and which package carries it."""

from __future__ import annotations

from dataclasses import dataclass

from trireme import packages

TEST, VALIDATION, MEMORY, TRAINING = "test", "validation", "memory", "training"


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned npm package."""

    name: str
    version: str
    integrity: str
    licence: str


@dataclass(frozen=True, slots=True)
class Family:
    """One set of drawings.

    Attributes:
        name: short name, used in ids and folders.
        roles: what its pictures may be used for; test and validation exclude every other role.
        artist: families by one artist from one drawing count as one picture when a class's pictures are counted.
    """

    name: str
    roles: tuple[str, ...]
    artist: str
    package: Package


def _family(name: str, roles: tuple[str, ...], version: str, licence: str, integrity: str, artist: str = "") -> Family:
    return Family(
        name, roles, artist or name, Package(f"@iconify-json/{name}", version, f"sha512-{integrity}", licence)
    )


FAMILIES: tuple[Family, ...] = (
    _family(
        "twemoji", (TEST,), "1.2.5", "CC-BY-4.0",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    _family(
        "noto", (TEST,), "1.2.9", "Apache-2.0",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    _family(
        "emojione-v1", (VALIDATION,), "1.2.3", "CC-BY-SA-4.0",
        "UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww==",
    ),
    _family(
        "noto-v1", (MEMORY, TRAINING), "1.2.5", "Apache-2.0",
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    ),
    _family(
        "openmoji", (MEMORY, TRAINING), "1.2.29", "CC-BY-SA-4.0",
        "vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
    ),
    _family(
        "fluent-emoji-flat", (MEMORY, TRAINING), "1.2.6", "MIT",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        artist="fluent",
    ),
    _family(
        "emojione", (MEMORY,), "1.2.3", "CC-BY-4.0",
        "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    _family(
        "fluent-emoji-high-contrast", (TRAINING,), "1.2.6", "MIT",
        "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
        artist="fluent",
    ),
    _family(
        "streamline-emojis", (TRAINING,), "1.2.4", "CC-BY-4.0",
        "iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
    ),
)  # fmt: skip

NAMES = Package(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    "MIT",
)

BY_NAME = {family.name: family for family in FAMILIES}
PACKAGES: tuple[Package, ...] = (NAMES, *(family.package for family in FAMILIES))


def with_role(role: str) -> tuple[Family, ...]:
    """The families that may be used as `role`, in table order."""
    return tuple(family for family in FAMILIES if role in family.roles)


def fetch(package: Package) -> None:
    """Bring the package into the cache unless it is there."""
    packages.fetch_npm(package.name, package.version, package.integrity)


def read(package: Package, member: str) -> bytes:
    """A file of a package, fetched first where it is missing."""
    archive = packages.fetch_npm(package.name, package.version, package.integrity)
    return packages.read_member(archive, f"package/{member}")
