"""The images that the Dockerfiles make: small, without tools or secrets, and at home in a restricted pod.

They are built here from those very files, over a stand-in for the official base image; for the trainer with hollow
CUDA libraries (tests/cluster/images). Bounds on sizes are uncompressed and count the base image.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from tests.absent import absent
from tests.cluster.harness.errors import CannotRunError
from tests.cluster.images.build import NAMES, Image, build
from tests.cluster.images.inside import configuration, files, layers, run_inside

MEBIBYTE = 2**20
MOST_BYTES = {"operator": 350 * MEBIBYTE, "trainer": 1150 * MEBIBYTE}
MOST_CODE_BYTES = 8 * MEBIBYTE
OURS = re.compile(
    r"opt/evergraft/lib/python3\.11/site-packages/evergraft(_operator|_trainer|-[0-9.]+\.dist-info)?(/|$)"
)
TOOLS = re.compile(r"(^|/)s?bin/(gcc|g\+\+|cc|c\+\+|clang|ld|as|make|cmake|git|curl|wget|pip[0-9.]*)$")
SECRETS = re.compile(r"\.git/|\.netrc$|\.pypirc$|id_(rsa|ed25519)|\.ssh/|\.env$|credentials\.json$|kubeconfig|\.key$")
TESTS_OF_OURS = re.compile(r"site-packages/(tests/|conftest\.py$|evergraft\w*/(.*/)?(tests/|conftest\.py$))")
STEP = """
import torch, torchvision
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(1568, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = model(torch.randn(4, 3, 16, 16)).square().mean()
loss.backward()
optimizer.step()
result = float(model(torch.ones(1, 3, 16, 16)).sum().detach())
"""


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def images() -> Callable[[str], Image]:
    """Builds an image; one skip, or failure where clusters are required, says why this machine cannot."""

    def have(name: str) -> Image:
        try:
            return build(name)
        except CannotRunError as reason:
            absent(f"images: {reason}")

    return have


@pytest.fixture(scope="module")
def image(name: str, images: Callable[[str], Image]) -> Image:
    return images(name)


def test_it_is_small_and_a_change_of_code_ships_little(name: str, image: Image) -> None:
    assert image.tar.stat().st_size < MOST_BYTES[name]
    content = [layer for layer in layers(image) if any(entry.isfile() for entry in layer.values())]
    last = {path: entry for path, entry in content[-1].items() if entry.isfile()}
    assert sum(entry.size for entry in last.values()) < MOST_CODE_BYTES
    assert [path for path in last if not OURS.match(path) and path != "opt/evergraft/bin/evergraft"] == []


def test_it_holds_no_tool_no_secret_and_no_test(image: Image) -> None:
    paths = files(image)
    assert "opt/evergraft/bin/evergraft" in paths
    for unwanted in (TOOLS, SECRETS, TESTS_OF_OURS):
        assert [path for path in paths if unwanted.search(path)] == []
    assert [path for path in paths if re.search(r"(site|dist)-packages/pip/", path)] == []


def test_nobody_but_root_may_write_to_it(image: Image) -> None:
    open_to_all = [
        path
        for path, entry in files(image).items()
        if path.startswith("opt/") and not entry.issym() and (entry.mode & 0o022 or entry.uid != 0)
    ]
    assert open_to_all == []


def test_its_configuration_is_a_restricted_pod_s(name: str, image: Image) -> None:
    found = configuration(image)
    config = found["config"]
    environment = dict(line.split("=", 1) for line in config["Env"])
    assert config["User"] == "65532:65532"
    assert set(environment) == {"PATH", "HOME", "USER", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
    assert environment["HOME"] == "/tmp"
    assert config["Labels"]["org.opencontainers.image.title"].startswith(f"Evergraft {name}")
    assert not re.search(r"wheelhouse|https?://|/certs|PIP_", str(found))


def test_our_code_is_compiled_for_good(image: Image) -> None:
    paths = files(image)
    sources = [path for path in paths if OURS.match(path) and path.endswith(".py")]
    compiled = {path.replace("/__pycache__", "").replace(".cpython-311.pyc", ".py") for path in paths if ".pyc" in path}
    assert len(sources) > 50
    assert [path for path in sources if path not in compiled] == []


def test_the_command_line_runs_read_only_as_nobody(image: Image) -> None:
    assert "usage: evergraft" in run_inside(image, "evergraft", "--help")
    assert (
        run_inside(image, "python", "-c", "import os; print(os.getuid(), os.access('/opt', os.W_OK))")
        == "65532 False\n"
    )


def test_the_operator_s_image_has_what_operator_and_stewards_import(images: Callable[[str], Image]) -> None:
    code = "import evergraft_operator.__main__, kopf, kubernetes.aio.client, gcsfs, s3fs, evergraft.cli.steward"
    absent = "import importlib.util as u; print([n for n in ('torch', 'numpy', 'pip') if u.find_spec(n)])"
    assert run_inside(images("operator"), "python", "-W", "error", "-c", f"{code}; {absent}") == "[]\n"


def test_botocore_still_knows_what_s3_needs(images: Callable[[str], Image]) -> None:
    code = (
        "import botocore.session as b; s = b.get_session(); s.set_credentials('a', 'b');"
        "print([s.create_client(n, region_name='eu-west-1').meta.service_model.service_name"
        " for n in ('s3', 'sts', 'sso', 'sso-oidc')])"
    )
    assert run_inside(images("operator"), "python", "-c", code) == "['s3', 'sts', 'sso', 'sso-oidc']\n"


def test_the_trainer_s_image_trains_on_a_cpu(images: Callable[[str], Image]) -> None:
    """With the same bits as here, where this machine's torch is the same."""
    here: dict[str, object] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exec(STEP, here)
    finally:
        torch.set_num_threads(threads)
    code = (
        f"import torch; torch.set_num_threads(1)\n{STEP}\nprint(torch.__version__, torch.cuda.is_available(), result)"
    )
    version, cuda, result = run_inside(images("trainer"), "python", "-c", code).split()
    assert cuda == "False"
    if version == torch.__version__:
        assert float(result) == here["result"]
