"""lossd.torch over TLS, with a token or a certificate: by its client's arguments, or the environment's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import lossd
import lossd.torch
from tests.client.programs import run
from tests.credentials import Pki, TokenFile
from tests.server.server_process import process
from tests.torch.losses import backward

LOGITS, LABELS = torch.arange(12.0).reshape(3, 4).sin(), torch.tensor([0, 3, 1])


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.renew()
    return made


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    return TokenFile.made(tmp_path_factory.mktemp("tokens") / "tokens")


@pytest.fixture(scope="module")
def asking_for_token(pki: Pki, tokens: TokenFile) -> Iterator[str]:
    flags = ["--tls-cert", pki.server_pem, "--tls-key", pki.server_key, "--tokens", tokens.path]
    with process("--listen", "127.0.0.1:0", *flags) as (_, address):
        yield address


@pytest.fixture(scope="module")
def asking_for_certificate(pki: Pki) -> Iterator[str]:
    flags = ["--tls-cert", pki.server_pem, "--tls-key", pki.server_key, "--tls-client-ca", pki.ca_pem]
    with process("--listen", "127.0.0.1:0", *flags) as (_, address):
        yield address


def by_mode(client: lossd.Client, logits: Tensor) -> Tensor:
    with lossd.torch.remote(client):
        return F.cross_entropy(logits, LABELS)


WAYS: dict[str, Callable[[lossd.Client, Tensor], Tensor]] = {
    "function": lambda client, logits: lossd.torch.functional.cross_entropy(logits, LABELS, client=client),
    "module": lambda client, logits: lossd.torch.nn.CrossEntropyLoss(client=client)(logits, LABELS),
    "mode": by_mode,
    "tensor": lambda client, logits: F.cross_entropy(lossd.torch.RemoteTensor(logits, client), LABELS),  # type: ignore[arg-type]
    "transformers": lambda client, logits: lossd.torch.hf.causal_lm_loss(client)(
        logits[None], None, 4, shift_labels=LABELS[None]
    ),
}


def right(way: Callable[[lossd.Client, Tensor], Tensor], client: lossd.Client) -> bool:
    """Whether loss and gradient are PyTorch's."""
    own, remote = (LOGITS.clone().requires_grad_() for _ in range(2))
    expected, found = F.cross_entropy(own, LABELS), way(client, remote)
    backward(expected)
    backward(found)
    assert own.grad is not None
    assert remote.grad is not None
    return torch.allclose(expected, found) and torch.allclose(own.grad, remote.grad)


@pytest.mark.parametrize("way", WAYS)
def test_a_token(way: str, asking_for_token: str, pki: Pki, tokens: TokenFile) -> None:
    """Of the client is that of its losses, forward and backward; a wrong one is Unauthenticated, with what to give."""
    with lossd.Client(asking_for_token, token=tokens.token, **pki.trusting) as client:
        assert right(WAYS[way], client)
    told = r"none of this server's; is token= \(or LOSSD_TOKEN\)"
    with (
        lossd.Client(asking_for_token, token="wrong", **pki.trusting) as client,
        pytest.raises(lossd.Unauthenticated, match=told),
    ):
        WAYS[way](client, LOGITS)


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate(way: str, asking_for_certificate: str, pki: Pki) -> None:
    """As a token; without one the sentence names the arguments."""
    with lossd.Client(asking_for_certificate, **pki.shown) as client:
        assert right(WAYS[way], client)
    with (
        lossd.Client(asking_for_certificate, connect_timeout=0.3, **pki.trusting) as client,
        pytest.raises(lossd.Unavailable, match="give cert=FILE and key=FILE"),
    ):
        WAYS[way](client, LOGITS)


@pytest.mark.parametrize("asks", ["token", "certificate"])
def test_the_default_client(
    asks: str,
    asking_for_token: str,
    asking_for_certificate: str,
    pki: Pki,
    tokens: TokenFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Has what the environment names: code that is not changed reaches a server that asks who calls."""
    monkeypatch.setenv("LOSSD_SERVER", asking_for_token if asks == "token" else asking_for_certificate)
    monkeypatch.setenv("LOSSD_CA", pki.ca_pem)
    if asks == "token":
        monkeypatch.setenv("LOSSD_TOKEN", tokens.token)
    else:
        monkeypatch.setenv("LOSSD_CERT", pki.client_pem)
        monkeypatch.setenv("LOSSD_KEY", pki.client_key)
    done = run(
        """
        import torch, lossd.torch
        from torch.nn import functional as F

        logits = torch.zeros(2, 4, requires_grad=True)
        with lossd.torch.remote():
            F.cross_entropy(logits, torch.tensor([0, 1])).backward()
        print(logits.grad[0].tolist())
        """
    )

    assert done.stdout == "[-0.375, 0.125, 0.125, 0.125]\n", done.stderr


def test_a_compiled_loss(asking_for_token: str, pki: Pki, tokens: TokenFile) -> None:
    """Its operator calls the client that it was made with, credentials included."""
    with lossd.Client(asking_for_token, token=tokens.token, **pki.trusting) as client:
        compiled = torch.compile(
            lambda logits: lossd.torch.functional.cross_entropy(logits, LABELS, client=client),
            backend="aot_eager",
            fullgraph=True,
        )
        assert right(lambda _, logits: compiled(logits), client)
