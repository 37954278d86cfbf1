import numpy as np
import pytest

from gan.train_params import AdamParams, TrainParams

pytestmark = pytest.mark.usefixtures("tensorflow")

ADAM = AdamParams(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7)


def make_params(**changes):
    values = {
        "seed": 0,
        "steps": 60,
        "batch_size": 32,
        "latent_dim": 10,
        "generator_units": [16],
        "discriminator_units": [16],
        "leaky_slope": 0.01,
        "generator_adam": ADAM,
        "discriminator_adam": ADAM,
        "log_every_steps": 10,
        "trajectory_points": 4,
        "threads": 2,
    }
    return TrainParams(**{**values, **changes})


def make_images(count=200):
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def engine(tensorflow):
    from gan.training import Engine

    return Engine(make_params(), make_images())


def finish(engine, params, *, state=None, save=None, stop=lambda: False, every=1000.0):
    from gan import run as runs

    run = state or runs.Run(engine.initial_state())
    logged = []
    runs.train(
        engine,
        run,
        params=params,
        save=save,
        checkpoint_every_seconds=every,
        stop_requested=stop,
        on_log=lambda step, row: logged.append((step, *row)),
    )
    return run, logged


def weights(state, name):
    return [weight.numpy() for weight in state[name]]


def test_a_discriminator_update_moves_the_discriminator_alone(engine, tensorflow):
    from gan.losses import d_loss_real

    before = engine.initial_state()
    after, loss, logits = engine.update_discriminator(before, tensorflow.zeros([32, 28, 28, 1]), d_loss_real, 1.0)
    for name in ("g", "g_m", "g_v"):
        assert all(np.array_equal(a, b) for a, b in zip(weights(before, name), weights(after, name), strict=True))
    # the real images are all zero here, so the first layer's kernel has no gradient, and everything else moves
    moved = [not np.array_equal(a, b) for a, b in zip(weights(before, "d"), weights(after, "d"), strict=True)]
    assert moved[-1]
    noise = tensorflow.random.stateless_normal([32, 28, 28, 1], [1, 2])
    after, _, _ = engine.update_discriminator(before, noise, d_loss_real, 1.0)
    assert all(not np.array_equal(a, b) for a, b in zip(weights(before, "d"), weights(after, "d"), strict=True))


def test_a_generator_update_moves_the_generator_alone(engine, tensorflow):
    before = engine.initial_state()
    latents = tensorflow.random.stateless_normal([32, 10], [1, 2])
    after, _ = engine.update_generator(before, latents, 1.0)
    for name in ("d", "d_m", "d_v"):
        assert all(np.array_equal(a, b) for a, b in zip(weights(before, name), weights(after, name), strict=True))
    assert all(not np.array_equal(a, b) for a, b in zip(weights(before, "g"), weights(after, "g"), strict=True))


def test_updates_push_the_losses_down(engine, tensorflow):
    from gan.losses import d_loss_fake

    state = engine.initial_state()
    fakes = engine._generate(state["g"], tensorflow.random.stateless_normal([32, 10], [1, 2]))
    state, first, _ = engine.update_discriminator(state, fakes, d_loss_fake, 1.0)
    _, second, _ = engine.update_discriminator(state, fakes, d_loss_fake, 2.0)
    assert second < first


def test_a_step_is_the_published_one(engine, tensorflow):
    """One step against Keras' own optimizers, losses and metrics, written out as the lecture's three updates."""
    import keras

    from gan.models import build_discriminator, build_generator

    rng = np.random.default_rng(1)
    real = rng.uniform(-1, 1, (32, 28, 28, 1)).astype(np.float32)
    d_latents, g_latents = rng.normal(size=(2, 32, 10)).astype(np.float32)

    generator = build_generator(latent_dim=10, units=[16], leaky_slope=0.01, seed=0)
    discriminator = build_discriminator(units=[16], leaky_slope=0.01, seed=1)
    loss = keras.losses.BinaryCrossentropy()
    d_adam, g_adam = keras.optimizers.Adam(), keras.optimizers.Adam()
    d_losses, d_accuracies = [], []
    for images, target in ((real, 1.0), (generator(d_latents), 0.0)):
        with tensorflow.GradientTape() as tape:
            probabilities = discriminator(images)
            value = loss(np.full((32, 1), target), probabilities)
        d_adam.apply(tape.gradient(value, discriminator.trainable_variables), discriminator.trainable_variables)
        d_losses.append(float(value))
        d_accuracies.append(float(np.mean((probabilities.numpy() > 0.5) == target)))
    with tensorflow.GradientTape() as tape:
        g_loss = loss(np.ones((32, 1)), discriminator(generator(g_latents)))
    g_adam.apply(tape.gradient(g_loss, generator.trainable_variables), generator.trainable_variables)

    state, row = engine.step(engine.initial_state(), tensorflow.constant(0), real, d_latents, g_latents)
    np.testing.assert_allclose(row, [float(g_loss), np.mean(d_losses), 100 * np.mean(d_accuracies)], rtol=1e-5)
    for ours, theirs in ((state["g"], generator), (state["d"], discriminator)):
        for a, b in zip(ours, theirs.trainable_variables, strict=True):
            np.testing.assert_allclose(a, b.value, atol=2e-6)


def test_two_runs_and_any_cut_into_blocks_give_the_same_bytes(engine, monkeypatch):
    from gan import run as runs

    whole, logged = finish(engine, make_params())
    again, _ = finish(engine, make_params())
    assert [step for step, *_ in logged] == [0, 10, 20, 30, 40, 50]
    monkeypatch.setattr(runs, "BLOCK_STEPS", 7)
    cut, _ = finish(engine, make_params(log_every_steps=25))
    for other in (again, cut):
        np.testing.assert_array_equal(whole.all_history, other.all_history)
        for name in whole.state:
            for a, b in zip(weights(whole.state, name), weights(other.state, name), strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_run_that_stops_at_every_block_ends_in_the_same_bytes(engine, tmp_path):
    from gan import run as runs
    from gan.checkpoints import Scratch

    whole, _ = finish(engine, make_params())
    with Scratch(tmp_path, "key") as scratch:
        stops = 0
        state = None
        while True:
            try:
                run, _ = finish(
                    engine,
                    make_params(),
                    state=state,
                    save=lambda run: scratch.save(run.next_step - 1, run.to_arrays()),
                    stop=lambda: True,
                )
                break
            except runs.StoppedError:
                stops += 1
                state = runs.Run.from_arrays(scratch.load())
    assert stops >= 5
    np.testing.assert_array_equal(whole.all_history, run.all_history)
    assert whole.snapshots.keys() == run.snapshots.keys()
    assert all(np.array_equal(whole.snapshots[step], run.snapshots[step]) for step in whole.snapshots)
    assert whole.trajectory.keys() == run.trajectory.keys()
    for step, generator in whole.trajectory.items():
        assert all(np.array_equal(a, b) for a, b in zip(generator, run.trajectory[step], strict=True))
    for name in whole.state:
        assert all(np.array_equal(a, b) for a, b in zip(weights(whole.state, name), weights(run.state, name), strict=True))


def test_a_non_finite_loss_names_its_step_and_keeps_the_checkpoint(tensorflow, tmp_path):
    from gan.training import Engine, NonFiniteError

    huge = AdamParams(learning_rate=1.0, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
    params = make_params(generator_adam=huge, discriminator_adam=huge)
    engine = Engine(params, make_images())
    state = engine.initial_state()
    state["d"][0] = state["d"][0] * np.float32(1e38)
    from gan import run as runs

    saved = []
    with pytest.raises(NonFiniteError, match=r"step \d+: \w+ is (not finite|nan|inf)"):
        finish(engine, params, state=runs.Run(state), save=saved.append, every=1e-9)
    assert saved == []


def test_trajectory_steps_are_log_steps_and_end_with_the_last():
    from gan.run import trajectory_steps

    default = sorted(trajectory_steps(steps=5001, log_every_steps=50, points=12))
    assert default[0] == 50
    assert default[-1] == 5000
    assert len(default) == 12
    assert all(step % 50 == 0 for step in default)
    assert trajectory_steps(steps=1, log_every_steps=50, points=12) == {0}
    assert trajectory_steps(steps=20, log_every_steps=50, points=12) == {19}
    assert trajectory_steps(steps=101, log_every_steps=50, points=1) == {100}


def test_images_of_the_wrong_kind_are_refused(tensorflow):
    from gan.training import Engine

    with pytest.raises(ValueError, match=r"uint8 \[n, 28, 28, 1\].*float32"):
        Engine(make_params(), make_images().astype(np.float32))
