from pathlib import Path

import numpy as np
import pytest

from gan.params import read_file
from gan.runtime import processor_kind
from gan.training.params import AdamParams, TrainParams

pytestmark = pytest.mark.usefixtures("tensorflow")

LECTURE = read_file(Path(__file__).resolve().parents[2] / "sets/lecture.yaml")["train"]
ADAM = AdamParams(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, update_clip=0.0)


def make_params(**changes):
    """The lecture's parameters, smaller.

    Networks smaller yet take XLA three times as long to compile: it writes small products out in code, which is long.
    """
    small = {
        "steps": 60,
        "batch_size": 64,
        "latent_dim": 10,
        "generator_units": [64],
        "discriminator_units": [64],
        "log_every_steps": 10,
        "trajectory_points": 4,
        "threads": 2,
        "processor": processor_kind(),
    }
    return TrainParams(**{**LECTURE, **small, **changes})


def make_images(count=200):
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def engine(tensorflow):
    from gan.training.engine import Engine

    return Engine(make_params(), make_images())


def finish(engine):
    """A whole run, and the steps that it told of."""
    logged = []
    return go_on(engine, on_log=lambda step, row: logged.append(step)), logged


def go_on(engine, run=None, *, save=None, stop=lambda: False, every=1000.0, on_log=lambda step, row: None):
    """Train the TrainingRun `run`, by default a new one, to its end or until it is stopped."""
    from gan.training import loop

    run = run or loop.TrainingRun(engine.initial_state())
    loop.train(engine, run, save=save, checkpoint_every_seconds=every, stop_requested=stop, on_log=on_log)
    return run


def weights(state, name):
    return [weight.numpy() for weight in state[name]]


def test_a_discriminator_update_moves_the_discriminator_alone(engine, tensorflow):
    before = engine.initial_state()
    after, *_ = engine.step.update_discriminator(before, 0, 1.0, real=(tensorflow.zeros([64, 28, 28, 1]), None))
    for name in ("g", "g_m", "g_v"):
        assert all(np.array_equal(a, b) for a, b in zip(weights(before, name), weights(after, name), strict=True))
    # the real images are all zero here, so the first layer's kernel has no gradient, and everything else moves
    moved = [not np.array_equal(a, b) for a, b in zip(weights(before, "d"), weights(after, "d"), strict=True)]
    assert moved[-1]
    noise = tensorflow.random.stateless_normal([64, 28, 28, 1], [1, 2])
    after, *_ = engine.step.update_discriminator(before, 0, 1.0, real=(noise, None))
    assert all(not np.array_equal(a, b) for a, b in zip(weights(before, "d"), weights(after, "d"), strict=True))


def test_a_generator_update_moves_the_generator_alone(engine, tensorflow):
    before = engine.initial_state()
    latents = tensorflow.random.stateless_normal([64, 10], [1, 2])
    after, _ = engine.step.update_generator(before, 0, (latents, None))
    for name in ("d", "d_m", "d_v"):
        assert all(np.array_equal(a, b) for a, b in zip(weights(before, name), weights(after, name), strict=True))
    assert all(not np.array_equal(a, b) for a, b in zip(weights(before, "g"), weights(after, "g"), strict=True))


def test_updates_push_the_losses_down(engine, tensorflow):
    state = engine.initial_state()
    fakes = engine.step.generate(state["g"], tensorflow.random.stateless_normal([64, 10], [1, 2]), None)
    state, first, *_ = engine.step.update_discriminator(state, 0, 1.0, fakes=(fakes, None))
    _, second, *_ = engine.step.update_discriminator(state, 0, 2.0, fakes=(fakes, None))
    assert second < first


def test_a_step_is_the_published_one(engine, tensorflow):
    """One step against Keras' own optimizers, losses and metrics, written out as the lecture's three updates."""
    import keras

    from gan.training.networks import build_discriminator, build_generator

    rng = np.random.default_rng(1)
    real = rng.uniform(-1, 1, (64, 28, 28, 1)).astype(np.float32)
    d_latents, g_latents = rng.normal(size=(2, 64, 10)).astype(np.float32)

    generator = build_generator(latent_dim=10, units=[64], leaky_slope=0.01, seed=0)
    discriminator = build_discriminator(units=[64], leaky_slope=0.01, seed=1)
    loss = keras.losses.BinaryCrossentropy()
    d_adam, g_adam = keras.optimizers.Adam(), keras.optimizers.Adam()
    d_losses, d_accuracies = [], []
    for images, target in ((real, 1.0), (generator(d_latents), 0.0)):
        with tensorflow.GradientTape() as tape:
            probabilities = discriminator(images)
            value = loss(np.full((64, 1), target), probabilities)
        d_adam.apply(tape.gradient(value, discriminator.trainable_variables), discriminator.trainable_variables)
        d_losses.append(float(value))
        d_accuracies.append(float(np.mean((probabilities.numpy() > 0.5) == target)))
    with tensorflow.GradientTape() as tape:
        g_loss = loss(np.ones((64, 1)), discriminator(generator(g_latents)))
    g_adam.apply(tape.gradient(g_loss, generator.trainable_variables), generator.trainable_variables)

    state, row = engine.step(engine.initial_state(), tensorflow.constant(0), real, d_latents, g_latents)
    np.testing.assert_allclose(row, [float(g_loss), np.mean(d_losses), 100 * np.mean(d_accuracies)], rtol=1e-5)
    for ours, theirs in ((state["g"], generator), (state["d"], discriminator)):
        for a, b in zip(ours, theirs.trainable_variables, strict=True):
            np.testing.assert_allclose(a, b.value, atol=2e-6)


def test_two_runs_and_any_cut_into_blocks_give_the_same_bytes(engine, monkeypatch):
    from gan.training import loop
    from gan.training.engine import Engine

    whole, logged = finish(engine)
    again, _ = finish(engine)
    assert logged == [0, 10, 20, 30, 40, 50]
    monkeypatch.setattr(loop, "BLOCK_STEPS", 7)
    cut, _ = finish(Engine(make_params(log_every_steps=25), make_images()))
    for other in (again, cut):
        np.testing.assert_array_equal(whole.all_history, other.all_history)
        for name in whole.state:
            for a, b in zip(weights(whole.state, name), weights(other.state, name), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.slow(seconds=3)
def test_without_replacement_each_image_is_seen_once_an_epoch_however_steps_are_cut(tensorflow, monkeypatch):
    from gan.training.engine import Engine

    images = np.repeat(np.arange(200, dtype=np.uint8), 28 * 28).reshape(200, 28, 28, 1)  # image i is filled with i
    engine = Engine(make_params(sampling="without_replacement"), images)
    whole, rows = engine.advance(engine.initial_state(), 0, 25)
    state, first = engine.advance(engine.initial_state(), 0, 7)
    state, rest = engine.advance(state, 7, 18)
    assert same_state(whole, state) and np.array_equal(rows, np.concatenate([first, rest]))
    seen = []

    def steps(state, first_step, count, pixels, d_latents, g_latents, labels):
        seen.append(pixels[:, :, 0, 0, 0])
        return state, tensorflow.zeros([25, 3])

    monkeypatch.setattr(engine, "_compiled_steps", steps)
    monkeypatch.setattr(engine, "_train_block", engine._block)
    engine.advance(engine.initial_state(), 0, 25)
    np.testing.assert_array_equal(np.sort(seen[0].numpy().ravel().reshape(8, 200)), np.tile(np.arange(200), (8, 1)))
    np.testing.assert_array_equal(engine.draws(0)["indices"], seen[0])  # what a benchmark hands to others


def test_a_run_that_stops_at_every_block_ends_in_the_same_bytes(engine, tmp_path):
    from gan.training import loop
    from gan.training.checkpoints import Scratch

    whole, _ = finish(engine)
    with Scratch(tmp_path, "key") as scratch:
        stops, run = 0, None
        while True:
            try:
                run = go_on(engine, run, save=lambda run: scratch.save(run.next_step - 1, run.to_arrays()), stop=lambda: True)
                break
            except loop.StoppedError:
                stops += 1
                run = loop.TrainingRun.from_arrays(scratch.load())
    assert stops >= 5
    np.testing.assert_array_equal(whole.all_history, run.all_history)
    assert whole.snapshots.keys() == run.snapshots.keys()
    assert all(np.array_equal(whole.snapshots[step], run.snapshots[step]) for step in whole.snapshots)
    assert whole.trajectory.keys() == run.trajectory.keys()
    for step, generator in whole.trajectory.items():
        assert all(np.array_equal(a, b) for a, b in zip(generator, run.trajectory[step], strict=True))
    for name in whole.state:
        assert all(np.array_equal(a, b) for a, b in zip(weights(whole.state, name), weights(run.state, name), strict=True))


@pytest.mark.slow(seconds=3)
def test_a_non_finite_loss_names_its_step_and_keeps_the_checkpoint(tensorflow, tmp_path):
    from gan.training.engine import Engine, NonFiniteError

    huge = AdamParams(learning_rate=1.0, beta_1=0.9, beta_2=0.999, epsilon=1e-7, update_clip=0.0)
    params = make_params(generator_adam=huge, discriminator_adam=huge)
    engine = Engine(params, make_images())
    state = engine.initial_state()
    state["d"][0] = state["d"][0] * np.float32(1e38)
    from gan.training import loop

    saved = []
    with pytest.raises(NonFiniteError, match=r"step \d+: \w+ is (not finite|nan|inf)"):
        go_on(engine, loop.TrainingRun(state), save=saved.append, every=1e-9)
    assert saved == []


def test_trajectory_steps_are_log_steps_and_end_with_the_last():
    from gan.training.loop import trajectory_steps

    default = sorted(trajectory_steps(steps=5001, log_every_steps=50, points=12))
    assert default[0] == 50
    assert default[-1] == 5000
    assert len(default) == 12
    assert all(step % 50 == 0 for step in default)
    assert trajectory_steps(steps=1, log_every_steps=50, points=12) == {0}
    assert trajectory_steps(steps=20, log_every_steps=50, points=12) == {19}
    assert trajectory_steps(steps=101, log_every_steps=50, points=1) == {100}
    # no more log steps than points, which once took as long as there are steps
    assert trajectory_steps(steps=100_001, log_every_steps=10_000, points=12) == set(range(10_000, 100_001, 10_000))
    assert trajectory_steps(steps=130, log_every_steps=50, points=3) == {50, 100, 129}
    assert trajectory_steps(steps=130, log_every_steps=50, points=2) == {50, 129}


def test_images_of_the_wrong_kind_are_refused(tensorflow):
    from gan.training.engine import Engine

    with pytest.raises(ValueError, match=r"uint8 \[n, 28, 28, 1\].*float32"):
        Engine(make_params(), make_images().astype(np.float32))


# --- the other losses, orders and networks -----------------------------------------------------------------------------------

CONV = {
    "network": "conv",
    "conditional": True,
    "generator_units": [4, 4],
    "discriminator_units": [4, 4, 8],
    "leaky_slope": 0.2,
    "batch_size": 8,
    "steps": 30,
    "update_order": "simultaneous",
    "r1_gamma": 1.0,
    "penalty_every_steps": 4,
    "warm_up_steps": 5,
    "constant_rate_share": 0.5,
    "final_rate_share": 0.1,
    "ema_decay": 0.9,
    "compute_precision": "bfloat16",
    "instructions": "native",
    "processor": processor_kind(),
    "compiler": "graph",
}


def make_labels(count=200):
    return (np.arange(count) % 10).astype(np.uint8)


@pytest.fixture(scope="module")
def conv_engine(tensorflow):
    from gan.training.engine import Engine

    return Engine(make_params(**CONV), make_images(), make_labels())


def same_state(a, b):
    return a.keys() == b.keys() and all(
        np.array_equal(x, y) for name in a for x, y in zip(weights(a, name), weights(b, name), strict=True)
    )


@pytest.mark.bfloat16
def test_a_conv_conditional_bfloat16_run_is_the_same_again_in_any_blocks_and_after_a_stop(conv_engine, monkeypatch, tmp_path):
    from gan.training import loop
    from gan.training.checkpoints import Scratch

    whole, _ = finish(conv_engine)
    again, _ = finish(conv_engine)
    monkeypatch.setattr(loop, "BLOCK_STEPS", 7)
    cut, _ = finish(conv_engine)
    with Scratch(tmp_path, "key") as scratch:
        with pytest.raises(loop.StoppedError):
            go_on(conv_engine, save=lambda run: scratch.save(run.next_step - 1, run.to_arrays()), stop=lambda: True)
        resumed = go_on(conv_engine, loop.TrainingRun.from_arrays(scratch.load()))
    assert set(whole.state) == {"g", "g_m", "g_v", "d", "d_m", "d_v", "g_average"}
    for other in (again, cut, resumed):
        np.testing.assert_array_equal(whole.all_history, other.all_history)
        assert same_state(whole.state, other.state)


@pytest.mark.bfloat16
def test_the_average_is_what_is_shown_and_saved(conv_engine):
    state = conv_engine.initial_state()
    expected = [weight.numpy() for weight in state["g"]]
    for step in range(3):
        state, _ = conv_engine.advance(state, step, 1)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [decay * a + (1 - decay) * w.numpy() for a, w in zip(expected, state["g"], strict=True)]
    for ours, by_hand in zip(conv_engine.generator_weights(state), expected, strict=True):
        np.testing.assert_allclose(ours, by_hand, rtol=1e-5, atol=1e-7)
    generator, _ = conv_engine.models(state)
    assert all(np.array_equal(a, b) for a, b in zip(generator.get_weights(), conv_engine.generator_weights(state), strict=True))
    assert not np.array_equal(generator.get_weights()[0], state["g"][0].numpy())


@pytest.mark.parametrize(
    "changes",
    [
        {"conditional": True, "ema_decay": 0.9},
        {"clusters": 4},
        {
            "clusters": 4,
            "network": "conv",
            "compiler": "graph",
            "generator_units": [4, 4],
            "discriminator_units": [4, 4, 8],
        },
    ],
)
def test_a_temperature_stretches_the_latents_of_the_result(tensorflow, changes):
    from gan.generators import inputs_of
    from gan.training.engine import Engine

    params = make_params(**changes)
    labels = np.arange(200) % 10 if params.conditional else None
    plain, stretched = (Engine(params.model_copy(update={"temperature": t}), make_images(), labels) for t in (1.0, 1.5))
    state = plain.initial_state()
    samples = stretched.samples(state)
    plain, stretched, latents = plain.models(state)[0], stretched.models(state)[0], stretched._sample_latents.numpy()
    factors = np.full(10, 1.5, np.float32)
    factors[: 1 if params.clusters else 0] = 1  # the one that says which cluster
    arrange, shown = inputs_of(plain).arrange, np.arange(16, dtype=np.int32) % 10
    expected = plain(arrange(latents * factors, shown)).numpy()
    np.testing.assert_allclose(stretched(arrange(latents, shown)).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(samples, expected, atol=1e-5)
    assert np.abs(expected - plain(arrange(latents, shown)).numpy()).max() > 0.01


def test_a_temperature_leaves_training_alone(engine):
    from gan.training.engine import Engine

    stretched = Engine(make_params(temperature=1.5), make_images())
    states = [each.advance(each.initial_state(), 0, 5)[0] for each in (engine, stretched)]
    assert same_state(*states)


@pytest.mark.bfloat16
def test_samples_of_a_conditional_run_show_all_digits(conv_engine):
    assert conv_engine._sample_labels.numpy().tolist() == [*range(10), *range(6)]
    assert conv_engine.samples(conv_engine.initial_state()).shape == (16, 28, 28, 1)


def small_batch(tensorflow, conditional, batch=6):
    rng = np.random.default_rng(1)
    real = rng.uniform(-1, 1, (batch, 28, 28, 1)).astype(np.float32)
    d_latents, g_latents = rng.normal(size=(2, batch, 10)).astype(np.float32)
    labels = tensorflow.range(batch) if conditional else None
    return *map(tensorflow.constant, (real, d_latents, g_latents)), labels


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "relativistic"])
@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_step_against_keras_optimizers(tensorflow, loss, order, conditional):
    """One step with R1 and R2 against Keras' optimizer and losses written out anew."""
    import keras

    from gan.training.engine import Engine
    from gan.training.losses import LOSSES

    params = make_params(
        loss=loss, update_order=order, conditional=conditional, r1_gamma=2.0, r2_gamma=0.5, penalty_every_steps=3, warm_up_steps=2
    )
    engine = Engine(params, make_images(), make_labels() if conditional else None)
    real, d_latents, g_latents, labels = small_batch(tensorflow, conditional)
    generator, discriminator = (
        engine.generator,
        keras.Model(engine.discriminator.input, engine.discriminator.get_layer("logits").output),
    )

    def generate(latents):
        return generator([latents, labels] if conditional else latents)

    def classify(images):
        return discriminator([images, labels] if conditional else images)

    d_of = {
        "non_saturating": lambda r, f: tensorflow.reduce_mean(-tensorflow.math.log_sigmoid(r) - tensorflow.math.log_sigmoid(-f)),
        "hinge": lambda r, f: tensorflow.reduce_mean(tensorflow.maximum(0.0, 1 - r) + tensorflow.maximum(0.0, 1 + f)),
        "relativistic": lambda r, f: tensorflow.reduce_mean(-tensorflow.math.log_sigmoid(r - f)),
    }[loss]
    g_of = {
        "non_saturating": lambda r, f: tensorflow.reduce_mean(-tensorflow.math.log_sigmoid(f)),
        "hinge": lambda r, f: -tensorflow.reduce_mean(f),
        "relativistic": lambda r, f: tensorflow.reduce_mean(-tensorflow.math.log_sigmoid(f - r)),
    }[loss]
    before = engine.initial_state()
    state, row = engine.step(before, tensorflow.constant(0), real, d_latents, g_latents, labels)

    fakes = generate(d_latents if order == "alternating" else g_latents)
    with tensorflow.GradientTape() as outer:
        with tensorflow.GradientTape(persistent=True) as inner:
            images = [real, fakes]
            inner.watch(images)
            logits = [classify(half) for half in images]
        squares = [
            tensorflow.reduce_mean(tensorflow.norm(tensorflow.reshape(inner.gradient(logit, x), [6, -1]), axis=1) ** 2)
            for logit, x in zip(logits, images, strict=True)
        ]
        d_loss = d_of(*logits)
        total = d_loss + 3 * (2.0 / 2 * squares[0] + 0.5 / 2 * squares[1])  # lazily: every third step, three times
    half_rate = {"learning_rate": 0.0005}  # the first of two steps of warm-up
    d_gradients = outer.gradient(total, discriminator.trainable_variables)
    d_adam, g_adam = keras.optimizers.Adam(**half_rate), keras.optimizers.Adam(**half_rate)
    if order == "alternating":
        d_adam.apply(d_gradients, discriminator.trainable_variables)
    with tensorflow.GradientTape() as tape:
        g_loss = g_of(classify(real), classify(generate(g_latents)))
    g_adam.apply(tape.gradient(g_loss, generator.trainable_variables), generator.trainable_variables)
    if order == "simultaneous":
        d_adam.apply(d_gradients, discriminator.trainable_variables)

    np.testing.assert_allclose(row[:2], [float(g_loss), float(d_loss) / LOSSES[loss].d_terms], rtol=1e-4)
    for ours, theirs in ((state["g"], generator), (state["d"], discriminator)):
        for a, b in zip(ours, theirs.trainable_variables, strict=True):
            np.testing.assert_allclose(a, b.value, atol=5e-6)

    # between two penalties, there is none: the same step without them
    plain = Engine(
        make_params(loss=loss, update_order=order, conditional=conditional, warm_up_steps=2),
        make_images(),
        make_labels() if conditional else None,
    )
    one = tensorflow.constant(1)
    lazy, bare = (e.step(before, one, real, d_latents, g_latents, labels)[0] for e in (engine, plain))
    assert same_state(lazy, bare)


def test_each_network_has_its_own_update_clip(tensorflow):
    from gan.training.engine import Engine

    clips = {"g": 0.2, "d": 0.1}
    params = make_params(
        update_order="alternating",
        generator_adam=ADAM.model_copy(update={"update_clip": clips["g"]}),
        discriminator_adam=ADAM.model_copy(update={"update_clip": clips["d"]}),
    )
    engine = Engine(params, make_images())
    real, d_latents, g_latents, _ = small_batch(tensorflow, False)
    before = engine.initial_state()
    after, _ = engine.step(before, tensorflow.constant(0), real, d_latents, g_latents)
    for name, clip in clips.items():
        moved = after[name][-2].numpy().astype(np.float64) - before[name][-2].numpy()
        np.testing.assert_allclose(np.sqrt(np.mean(moved**2)), 0.001 * clip, rtol=0.01)


def test_labels_reach_both_networks(tensorflow):
    """The gradient of a step on one label's images moves that label's output of D and its input of G, and no other's."""
    from gan.training.engine import Engine

    params = make_params(conditional=True, update_order="simultaneous", generator_units=[4], discriminator_units=[4])
    engine = Engine(params, make_images(), make_labels())
    real, d_latents, g_latents, _ = small_batch(tensorflow, False)
    before = engine.initial_state()
    after, _ = engine.step(before, tensorflow.constant(0), real, d_latents, g_latents, tensorflow.fill([6], 3))
    g_moved = np.any(after["g"][0].numpy() != before["g"][0].numpy(), axis=1)[10:]  # rows after the ten latents
    d_moved = np.any(after["d"][-2].numpy() != before["d"][-2].numpy(), axis=0)
    assert np.flatnonzero(g_moved).tolist() == [3]
    assert np.flatnonzero(d_moved).tolist() == [3]


def test_real_images_keep_their_labels(tensorflow, monkeypatch):
    from gan.training.engine import Engine

    # image i is filled with i, its label is i % 10
    images = np.repeat(np.arange(200, dtype=np.uint8), 28 * 28).reshape(200, 28, 28, 1)
    engine = Engine(make_params(conditional=True, update_order="alternating", compiler="graph"), images, make_labels())
    seen = []

    def steps(state, first_step, count, pixels, d_latents, g_latents, labels):
        seen.append((pixels[:, :, 0, 0, 0], labels))
        return state, tensorflow.zeros([25, 3])

    monkeypatch.setattr(engine, "_compiled_steps", steps)
    engine._block(engine.initial_state(), tensorflow.constant(0), tensorflow.constant(25), None)
    numbers, labels = (tensor.numpy() for tensor in seen[0])
    np.testing.assert_array_equal(numbers % 10, labels)
    assert set(labels.ravel()) == set(range(10))


@pytest.mark.parametrize("labels", [None, np.zeros(3, np.uint8)])
def test_conditional_training_needs_a_label_an_image(tensorflow, labels):
    from gan.training.engine import Engine

    with pytest.raises(ValueError, match=r"expected labels \[200\] if and only if conditional"):
        Engine(make_params(conditional=True), make_images(), labels)


def test_unconditional_training_takes_no_labels(tensorflow):
    from gan.training.engine import Engine

    with pytest.raises(ValueError, match="if and only if conditional"):
        Engine(make_params(), make_images(), make_labels())


def test_with_clusters_fakes_lie_in_the_clusters_of_their_real_images(tensorflow, monkeypatch):
    from gan.training.engine import Engine

    params = make_params(clusters=4, update_order="simultaneous", generator_units=[4], discriminator_units=[4])
    engine = Engine(params, make_images())
    seen = []

    def steps(state, first_step, count, pixels, d_latents, g_latents, labels):
        seen.extend([d_latents.numpy(), g_latents.numpy(), labels.numpy()])
        return state, tensorflow.zeros([25, 3])

    monkeypatch.setattr(engine, "_compiled_steps", steps)
    engine._block(engine.initial_state(), tensorflow.constant(0), tensorflow.constant(25), None)
    d_latents, g_latents, labels = seen
    assert set(labels.ravel()) == {0, 1, 2, 3}
    read_off = keras_clusters(engine)
    for latents in (d_latents, g_latents):
        np.testing.assert_array_equal(read_off(latents.reshape(-1, 10)), labels.ravel())
    real, _, _, _ = small_batch(tensorflow, False)
    before, latents = engine.initial_state(), d_latents.reshape(-1, 10)[labels.ravel() == 2][:6]
    after, _ = engine.step(before, tensorflow.constant(0), real, latents, latents, tensorflow.fill([6], 2))
    g_moved = np.any(after["g"][0].numpy() != before["g"][0].numpy(), axis=1)[10:]
    d_moved = np.any(after["d"][-2].numpy() != before["d"][-2].numpy(), axis=0)
    assert np.flatnonzero(g_moved).tolist() == np.flatnonzero(d_moved).tolist() == [2]


def keras_clusters(engine):
    """A function from latents to the clusters that the generator itself reads off them."""
    import keras

    seen = keras.Model(engine.generator.input, engine.generator.get_layer("cluster").output)
    return lambda latents: np.asarray(seen(latents)).argmax(axis=1)


@pytest.mark.slow(seconds=5)
@pytest.mark.parametrize("changes", [{}, {"compiler": "graph", "update_order": "alternating", "loss": "relativistic"}])
def test_a_run_with_clusters_is_the_same_again(changes):
    from gan.training.engine import Engine

    states = [Engine(make_params(clusters=3, **changes), make_images()) for _ in range(2)]
    (a, rows), (b, _) = (engine.advance(engine.initial_state(), 0, 25) for engine in states)
    assert np.isfinite(rows).all()
    assert same_state(a, b)


@pytest.mark.slow(seconds=5)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_batch_in_parts_trains_as_a_whole_one(tensorflow, threads):
    from gan.training.engine import Engine

    # 64 images in 3 parts are 21, 21 and 22
    def state(compiler):
        engine = Engine(make_params(compiler=compiler, threads=threads, update_order="simultaneous", r1_gamma=1.0), make_images())
        return engine.advance(engine.initial_state(), 0, 3)[0]

    for a, b in zip(state("graph")["g"], state("xla")["g"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
