"""The places of what trainers measure among the sums that the parameter server adds up."""


class Place:
    """The place of each sum among the SUMS; the last is the role's (`chiron.wire.jobs.IDLE`)."""

    TRAIN_LOSS, TRAIN_CORRECT, TRAIN_COUNT = 0, 1, 2
    LOSS, COUNT, CORRECT, TOP5 = 3, 4, 5, 6
    AUC, AUC_WEIGHT, F1, F1_WEIGHT = 7, 8, 9, 10
    SQUARED_ERROR, TARGET, TARGET_SQUARED, ELEMENTS = 11, 12, 13, 14
    DIVERGED = 15
