from typing import Any

import numpy as np
import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.litert.interpreting import Interpreted
from aggregator.keras.weights import layout_of, theta_of
from broker.litert import LiteRTBody
from host.errors import ConfigError
from tests.aggregator.keras.litert.in_litert import padded
from tests.aggregator.keras.litert.small_models import compiled

L = keras.layers
BATCH = 4


@pytest.fixture(scope="module")
def normalising() -> tuple[Any, LiteRTBody]:
    """A model with trained weights, statistics and a frozen layer, and its program."""
    keras.utils.set_random_seed(2)
    layers = [keras.Input((3,)), L.Dense(5, trainable=False), L.BatchNormalization(), L.Dense(2)]
    model = compiled(keras.Sequential(layers), loss="mse", metrics=["mae"])
    return model, export_litert(model, batch=BATCH)


def inputs(model: Any, *names: str) -> dict[str, Any]:  # noqa: ANN401
    random = np.random.default_rng(1)
    every = {
        "theta": theta_of(model),
        "opt": np.zeros(1, np.float32),
        "lr": np.array([0.1], np.float32),
        "x": random.normal(size=(BATCH, 3)).astype(np.float32),
        "y": random.normal(size=(BATCH, 2)).astype(np.float32),
        "weight": np.ones(BATCH, np.float32),
        "trained": theta_of(model)[: layout_of(model).trainable_size],
        "grad": np.ones(layout_of(model).trainable_size, np.float32),
    }
    return {name: every[name] for name in names}


def test_the_signatures_have_the_shapes_that_a_device_relies_on(
    normalising: tuple[Any, LiteRTBody],
) -> None:
    model, body = normalising
    program, layout = Interpreted(body.tflite), layout_of(model)
    trained = layout.trainable_size
    expected = {
        "train": (["theta", "opt", "lr", "x", "y", "weight"], {"theta": layout.size, "opt": 1, "loss": 1}),
        "grad": (
            ["theta", "x", "y", "weight"],
            {"grad": trained, "loss": 1, "state": layout.size - trained},
        ),
        "apply": (["trained", "opt", "lr", "grad"], {"trained": trained, "opt": 1}),
        "evaluate": (["theta", "x", "y", "weight"], {"sums": 2, "weight": 1}),
    }
    for name, (needed, sizes) in expected.items():
        outputs = program.run(name, **inputs(model, *needed))
        assert {key: value.shape for key, value in outputs.items()} == {k: (n,) for k, n in sizes.items()}
        assert all(np.isfinite(value).all() for value in outputs.values())
    assert program.run("infer", **inputs(model, "theta", "x"))["output"].shape == (BATCH, 2)


def test_the_body_says_what_the_model_is(normalising: tuple[Any, LiteRTBody]) -> None:
    _, body = normalising
    assert body.model_copy(update={"tflite": b"x"}) == LiteRTBody(
        batch=BATCH,
        optimizer_size=1,
        learning_rate=float(np.float32(0.1)),
        metrics=("loss", "mae"),
        classes=False,
        x_shape=(3,),
        x_dtype="float32",
        y_shape=(2,),
        batch_statistics=True,
        tflite=b"x",
    )
    assert len(body.tflite) < 60_000


def test_a_frozen_layer_stays_and_statistics_go_on_as_in_keras(normalising: tuple[Any, LiteRTBody]) -> None:
    model, body = normalising
    given = inputs(model, "theta", "opt", "lr", "x", "y", "weight")
    after = Interpreted(body.tflite).run("train", **given)["theta"]
    gradient = Interpreted(body.tflite).run(
        "grad", **{k: v for k, v in given.items() if k not in ("opt", "lr")}
    )
    copy = compiled(keras.models.clone_model(model), loss="mse")
    copy.set_weights(model.get_weights())
    copy.train_on_batch(given["x"], given["y"])
    np.testing.assert_allclose(after, theta_of(copy), atol=1e-6)
    trained = layout_of(model).trainable_size
    np.testing.assert_array_equal(gradient["state"], after[trained:])
    np.testing.assert_allclose(given["theta"][:trained] - 0.1 * gradient["grad"], after[:trained], atol=1e-7)
    parts = Interpreted(body.tflite).run(
        "apply", trained=given["theta"][:trained], opt=given["opt"], lr=given["lr"], grad=gradient["grad"]
    )
    np.testing.assert_allclose(parts["trained"], after[:trained], atol=1e-7)


def test_rows_of_weight_0_change_nothing() -> None:
    model = compiled(keras.Sequential([keras.Input((3,)), L.Dense(2, kernel_regularizer="l2")]), loss="mse")
    body = export_litert(model, batch=BATCH)
    given = inputs(model, "theta", "opt", "lr", "x", "y")
    x, y = given.pop("x")[:3], given.pop("y")[:3]
    after = Interpreted(body.tflite).run("train", **given, **padded(body, (x, y)))
    loss = model.train_on_batch(x, y)
    np.testing.assert_allclose(after["theta"], theta_of(model), rtol=1e-5)
    np.testing.assert_allclose(after["loss"], np.ravel(loss)[:1], rtol=1e-5)


def test_dropout_drops_by_a_seed_that_begins_again_in_every_interpreter() -> None:
    model = compiled(keras.Sequential([keras.Input((3,)), L.Dropout(0.5), L.Dense(2)]), loss="mse")
    bodies = []
    for seed in (0, 1):  # of this process, which is not to matter
        keras.utils.set_random_seed(seed)
        bodies.append(export_litert(model, batch=BATCH))
    assert bodies[0].stochastic
    given = inputs(model, "theta", "x", "y", "weight")
    program, another = (Interpreted(body.tflite) for body in bodies)
    first, second = program.run("grad", **given)["grad"], program.run("grad", **given)["grad"]
    assert (first != second).any()
    np.testing.assert_array_equal(first, another.run("grad", **given)["grad"])
    evaluated = program.run("infer", **inputs(model, "theta", "x"))["output"]
    np.testing.assert_allclose(evaluated, model(given["x"]), atol=1e-6)


def test_dropout_keeps_the_mean_and_drops_whole_channels_where_it_is_told_to() -> None:
    layers = [keras.Input((50, 40)), L.SpatialDropout1D(0.25), L.Dense(1, use_bias=False)]
    model = compiled(keras.Sequential(layers), loss=mean_of)
    body = export_litert(model, batch=BATCH)
    given = {"x": np.ones((BATCH, 50, 40), np.float32), "y": np.zeros((BATCH, 50, 1), np.float32)}
    # The gradient of the mean by a weight is the mean of what its channel lets through.
    through = Interpreted(body.tflite).run(
        "grad", theta=theta_of(model), weight=np.ones(BATCH, np.float32), **given
    )["grad"]
    dropped = BATCH * (1 - 0.75 * through)
    np.testing.assert_allclose(dropped, np.round(dropped), atol=1e-4)
    assert 0.8 < through.mean() < 1.2


def mean_of(_: Any, output: Any) -> Any:  # noqa: ANN401
    return keras.ops.mean(output, axis=-1)


def test_whole_numbers_go_in_as_they_are() -> None:
    layers = [keras.Input((3,), dtype="uint8"), L.Rescaling(1 / 255), L.Dense(2)]
    body = export_litert(compiled(keras.Sequential(layers), loss="mse"), batch=BATCH)
    assert body.x_dtype == "uint8"


def test_the_model_is_left_as_it_is() -> None:
    model = compiled(keras.Sequential([keras.Input((3,)), L.BatchNormalization(), L.Dense(2)]), loss="mse")
    before = theta_of(model)
    export_litert(model, batch=BATCH)
    np.testing.assert_array_equal(theta_of(model), before)


def several_inputs() -> Any:  # noqa: ANN401
    a, b = keras.Input((3,)), keras.Input((3,))
    return keras.Model([a, b], L.Dense(2)(L.Add()([a, b])))


def sequential(*layers: Any) -> Any:  # noqa: ANN401
    return keras.Sequential([keras.Input((8, 8, 2)), *layers, L.Flatten(), L.Dense(2)])


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (several_inputs, r"2 inputs.*x\[:, :16\].*Concatenate"),
        (
            lambda: keras.Sequential([keras.Input((None, 3)), L.LSTM(4), L.Dense(2)]),
            r"\(None, 3\).*keras.Input",
        ),
        (lambda: keras.Sequential([keras.Input((3,), dtype="int64"), L.Dense(2)]), "int64.*int32"),
        (lambda: sequential(L.Conv2D(4, 3, groups=2, name="grouped")), "grouped.*groups=1"),
        (lambda: sequential(L.Conv2DTranspose(4, 3, dilation_rate=2, name="wide")), "wide.*dilation_rate=1"),
        (lambda: sequential(L.GaussianNoise(0.1, name="noise")), "seed_generator.*Dropout"),
        (
            lambda: sequential(L.Reshape((8, 4, 4, 1)), L.Conv3D(2, 2, name="solid")),
            r"solid.*Conv3D\w+.*another layer",
        ),
        (
            lambda: sequential(L.Dense(2, activity_regularizer="l2", name="active")),
            "active has activity_regularizer.*kernel_regularizer",
        ),
    ],
)
def test_a_model_that_does_not_convert_is_refused_with_the_layer_and_what_to_use(
    build: Any,  # noqa: ANN401
    complaint: str,
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        export_litert(compiled(build(), loss="mse", metrics=()), batch=BATCH)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"metrics": ["mse", keras.metrics.RootMeanSquaredError()]}, "root_mean_squared_error.*use accuracy"),
        ({"metrics": ["mse", "mse"]}, "one name"),
        ({"loss": "crossentropy"}, "in full"),
        ({"loss": ["mse"]}, "one loss"),
        ({"loss": keras.losses.MeanSquaredError(reduction="sum")}, "reduction 'sum'.*'mean'"),
    ],
)
def test_what_the_model_is_compiled_with_is_refused_with_what_to_use(
    settings: dict[str, Any], complaint: str
) -> None:
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    with pytest.raises(ConfigError, match=complaint):
        export_litert(compiled(model, **{"loss": "mse", "metrics": ()} | settings), batch=BATCH)
