"""The published GAN that the default parameters reproduce: a lecture's DNN-GAN in TensorFlow 2, and what its text leaves open.

Its parameters stand in sets/lecture.yaml, where people can train them; its printed log stands here.
"""

import statistics

# step -> G loss, D loss, D accuracy in percent: the log's first ten and last nine lines, which are all that was printed
PUBLISHED_LOG = {
    0: (0.937, 0.939, 52.0),
    50: (4.444, 0.029, 100.0),
    100: (3.809, 0.033, 100.0),
    150: (2.943, 0.036, 100.0),
    200: (1.935, 0.109, 100.0),
    250: (3.105, 0.032, 100.0),
    300: (4.000, 0.014, 100.0),
    350: (3.387, 0.030, 100.0),
    400: (3.518, 0.025, 100.0),
    450: (3.947, 0.024, 100.0),
    4600: (4.523, 0.179, 94.2),
    4650: (3.546, 0.280, 89.7),
    4700: (3.863, 0.204, 92.8),
    4750: (4.028, 0.304, 88.3),
    4800: (4.132, 0.201, 91.7),
    4850: (4.254, 0.276, 89.3),
    4900: (4.731, 0.199, 92.7),
    4950: (4.426, 0.227, 91.3),
    5000: (5.094, 0.140, 95.2),
}
TAIL_LOG_LINES = 9  # the lines at the end of a log whose mean stands for the end of training
# parameters that the lecture does not state, that have no effect without penalties or an average, or that only decide how much is
# recorded
FREE_PARAMS = {
    "seed",
    "threads",
    "instructions",
    "device",
    "processor",
    "compiler",
    "penalty_every_steps",
    "ema_gamma",
    "log_every_steps",
    "trajectory_points",
}


def is_published(train_params, lecture_params):
    """Whether `train_params` are `lecture_params` but for FREE_PARAMS; both are dicts of the section `train`."""
    return _stated(train_params) == _stated(lecture_params)


def published_tail_mean():
    """The mean of the published log's last TAIL_LOG_LINES lines: (G loss, D loss, D accuracy in percent)."""
    tail = list(PUBLISHED_LOG.values())[-TAIL_LOG_LINES:]
    return tuple(statistics.fmean(column) for column in zip(*tail, strict=True))


def _stated(params):
    return {name: value for name, value in params.items() if name not in FREE_PARAMS}
