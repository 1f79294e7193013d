"""Default values of the parameters that several steps and the pipeline share."""

MAX_COUNT = 5
SEED = 0
RECIPE = "finetune"
BACKBONE = "tf_efficientnet_lite0"
VALIDATION_SHARE = 0.1
TEST_SHARE = 0.2
TRIALS = 4  # as many as the original tried
