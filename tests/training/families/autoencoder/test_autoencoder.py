"""The autoencoder: its networks, its search, what it learns and what it publishes; small nets, real ONNX graphs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor

from tests.training.pictures import dataset_of
from training import family
from training.data.base import ImageDataset
from training.export import Export, write_graph
from training.families.autoencoder import publish as autoencoding
from training.families.autoencoder.metrics import PublishedAutoencoder, pca_errors
from training.families.autoencoder.network import ConvEncoder, FourierDecoder
from training.families.autoencoder.publish import TrainedAutoencoder
from training.families.autoencoder.search import Basis, Codebook, SearchingEncoder, descend, solve
from training.families.autoencoder.trainer import Autoencoder, Hyperparameters
from training.loop import Run, fit
from training.metrics import onnx_model
from training.networks.pictures import pixels
from training.recipe import Batch

SIDE = 12
SMALL = Hyperparameters(
    latent=1, epochs=12, batch_size=50, lr=1e-2, hidden=(64, 64), channels=8, frequencies=16, fold=1.0, codebook=64,
    renew=5, ema_steps=10.0,
)  # fmt: skip


def discs(rows: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """A blurred disc somewhere on a circle: one number says it all, and no straight axis does."""
    angle = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) * 2 * torch.pi
    across = torch.arange(SIDE) - (SIDE - 1) / 2
    dx, dy = across - 3.5 * angle.cos()[:, None], across - 3.5 * angle.sin()[:, None]
    x = 255 * torch.exp(-(dx[:, None, :] ** 2 + dy[:, :, None] ** 2) / 4)
    return x.round().to(torch.uint8)[..., None], (angle > torch.pi).long()


@cache
def dataset() -> ImageDataset:
    train, held, test = (discs(n, seed=n) for n in (1000, 60, 80))
    return dataset_of("discs", ("below", "above"), train=train, held=held, test=test, box=8)


def recipe(h: Hyperparameters = SMALL) -> Autoencoder:
    return Autoencoder(dataset(), h, seed=0, accelerator=Accelerator(cpu=True))


def run_of(folder: Path, *, epochs: int = SMALL.epochs) -> Run:
    return Run(folder=folder, epochs=epochs, batch_size=SMALL.batch_size, seed=0, title="discs", quiet=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedAutoencoder:
    learner, data = recipe(), dataset()
    run = run_of(tmp_path_factory.mktemp("run"))
    history = fit(learner, data.train_x, data.train_y, run=run, accelerator=learner.accelerator)
    return TrainedAutoencoder(0, learner.served(nearest=1, steps=1), history)


@pytest.mark.parametrize("latent", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("picture", [(1, 28, 28), (3, 10, 13)])
def test_any_latent_size_fits_any_picture(latent: int, picture: tuple[int, int, int]) -> None:
    encoder = ConvEncoder(picture=picture, outputs=latent, widths=(4, 6), hidden=8)
    decoder = FourierDecoder(latent=latent, picture=picture, frequencies=4, hidden=(8, 8), channels=3)
    z = encoder(torch.rand(2, *picture))
    assert z.shape == (2, latent)
    assert decoder(z).shape == (2, *picture)


def test_the_derivative_that_the_decoder_gives_is_the_one_of_autograd() -> None:
    torch.manual_seed(0)
    decoder = FourierDecoder(latent=3, picture=(1, 9, 10), frequencies=5, hidden=(7, 7, 6), channels=2)
    z = torch.randn(4, 3)
    decoded, jacobian = decoder.linearise(z)
    torch.testing.assert_close(decoded, decoder(z).flatten(1))
    rows = [torch.autograd.functional.jacobian(lambda one: decoder(one[None]).flatten(), row) for row in z]  # type: ignore[no-untyped-call]
    torch.testing.assert_close(jacobian, torch.stack(rows).mT, atol=1e-6, rtol=1e-5)


@given(size=st.integers(1, 8), seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_the_unrolled_solver_solves(size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
    a, b = root @ root.mT + torch.eye(size), torch.randn(3, size, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(solve(a.double(), b), torch.linalg.solve(a.double(), b))


def test_gauss_newton_finds_the_code_of_a_picture_that_the_decoder_drew() -> None:
    torch.manual_seed(0)
    decoder = FourierDecoder(latent=2, picture=(1, 8, 8), frequencies=4, fold=0.3, hidden=(16,), channels=4)
    true = torch.tensor([[0.3, -0.2]])
    x, z = decoder(true).flatten(1).detach(), torch.tensor([[0.25, -0.1]])
    errors = []
    with torch.no_grad():
        for _ in range(8):
            z, error = descend(decoder, z, x, damping=0.02, floor=1e-6, bound=1.0)
            errors.append(float(error))
    assert errors[-1] < 1e-3 * errors[0]
    torch.testing.assert_close(z, true, atol=1e-2, rtol=0)


@given(seed=st.integers(0, 2**16), latent=st.integers(1, 4), nearest=st.integers(0, 3), steps=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_the_search_is_never_worse_than_the_proposal_alone(seed: int, latent: int, nearest: int, steps: int) -> None:
    torch.manual_seed(seed)
    picture = (1, 8, 8)
    encoder = ConvEncoder(picture=picture, outputs=latent, widths=(4,), hidden=8)
    decoder = FourierDecoder(latent=latent, picture=picture, frequencies=8, fold=2.0, hidden=(16,), channels=4)
    x = torch.rand(6, *picture)
    with torch.no_grad():
        basis = Basis.of(torch.rand(20, 64), 10)
        latents = torch.rand(12, latent) * 2 - 1
        book = Codebook.of(latents, decoder(latents).flatten(1), basis)
        searching = SearchingEncoder(
            encoder, decoder, codebook=book, basis=basis, bound=1.0, nearest=nearest, steps=steps
        )
        proposal = encoder(x).clamp(-1, 1)
        found, alone = ((decoder(z) - x).square().flatten(1).mean(1) for z in (searching(x), proposal))
    assert bool((found <= alone + 2e-6).all())


def test_the_nearest_entry_of_a_codebook_is_the_nearest() -> None:
    torch.manual_seed(0)
    decodings, x = torch.rand(30, 16), torch.rand(5, 16)
    basis = Basis.of(torch.rand(40, 16), 16)  # the whole space
    book = Codebook.of(torch.arange(30.0)[:, None], decodings, basis)
    entries, distances = book.nearest(basis.project(x), 2)
    true = torch.cdist(x, decodings).square()
    assert entries[:, :, 0].long().tolist() == true.topk(2, largest=False).indices.tolist()
    known = distances + (x - basis.mean).square().sum(1, keepdim=True)
    torch.testing.assert_close(known, true.topk(2, largest=False).values, atol=1e-4, rtol=1e-4)


def test_pca_is_scikit_learns() -> None:
    data = dataset()
    train, x = (t.numpy() for t in (data.train_x, data.held_x))
    for n, error in pca_errors(train, x, [1, 2, 5, 9999]).items():
        pca = PCA(n).fit(train.reshape(len(train), -1) / 255)
        rows = x.reshape(len(x), -1) / 255
        again = pca.inverse_transform(pca.transform(rows))
        assert error == pytest.approx(float(((rows - again) ** 2).mean()), rel=1e-3)


def test_one_number_beats_four_principal_components_on_what_is_curved(trained: TrainedAutoencoder) -> None:
    data = dataset()
    pca = pca_errors(data.train_x.numpy(), data.test_x.numpy(), [1, 4])
    error = float(trained.errors(data.test_x).mean())
    assert error < 0.5 * pca[4] < 0.2 * pca[1]


def test_a_run_that_was_resumed_gives_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    def step(learner: Autoencoder, position: int) -> None:
        rows = torch.arange(50 * position, 50 * position + 50)
        batch = Batch(
            x=dataset().train_x[rows],
            y=dataset().train_y[rows],
            index=rows,
            share=slice(0, 50),
            generator=torch.Generator().manual_seed(position),
            epoch=0,
            position=position,
            progress=position / 8,  # the encoder changes its aim at a half
        )
        learner.step(batch)

    whole, resumed = recipe(), recipe()
    for position in range(8):
        step(whole, position)
        if position == 2:  # between two renewals of the codebook
            torch.save(whole.state(), tmp_path / "state.pt")
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for position in range(3, 8):
        step(resumed, position)
    for one, other in zip(whole._networks, resumed._networks, strict=True):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    assert torch.equal(whole.latents, resumed.latents)


def test_half_stored_weights_change_the_error_by_nothing_that_shows(trained: TrainedAutoencoder) -> None:
    x = dataset().test_x
    with torch.no_grad():
        exact = trained.search.decoder(trained.search(pixels(x)))
    plain = float((exact - pixels(x)).square().mean())
    assert float(trained.errors(x).mean()) == pytest.approx(plain, rel=0.02, abs=1e-5)


@pytest.mark.slow
def test_the_decoder_is_written_as_it_computes(trained: TrainedAutoencoder, tmp_path: Path) -> None:
    z = trained.codes(dataset().test_x[:16])
    one = Export(graph="decoder", module=trained.decoder, inputs={"latent": z}, outputs=("image",))
    assert write_graph(tmp_path, one).parity_max_abs <= 1e-5


@pytest.mark.slow
def test_a_published_folder_says_what_it_measures(
    trained: TrainedAutoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset()
    monkeypatch.setattr(family, "dataset_of", lambda manifest, spec: data)
    options = type("Options", (), {})()
    options.models, options.name, options.model_version = str(tmp_path), "autoencoder-1d", None
    options.command, options.data, options.sizes_epochs = "python -m training autoencoder --data discs", "discs", 8
    folder = autoencoding.publish_autoencoder([trained], {1: trained}, data, options=options, precision="no")
    manifest = onnx_model.load_manifest(folder)
    assert manifest.latent is not None
    assert (manifest.latent.size, manifest.latent.prior) == (1, None)
    assert manifest.anomaly is not None
    assert len(manifest.anomaly.errors) == len(data.held_x)
    found = family.evaluate(autoencoding.FAMILY, folder, manifest)
    assert found.figures == pytest.approx({q.name: q.value for q in manifest.quality}, rel=1e-6)
    assert found.claimed
    model = PublishedAutoencoder(folder, manifest)
    x = data.test_x.numpy()
    latent = model.encode(x)
    by_hand = ((model.decode(latent) - x / 255) ** 2).mean()
    assert found.figures["mse"] == pytest.approx(float(by_hand), rel=1e-5)
    kept = json.loads((folder / autoencoding.FIGURES_FILE).read_text())
    assert kept["held"]["mse"] <= kept["held"]["codebook_mse"] <= kept["held"]["proposal_mse"] + 1e-9
    page = (folder / "report" / "index.html").read_text()
    assert all(f'id="{key}"' in page for key in ("digits", "sizes", "unusual", "search"))
