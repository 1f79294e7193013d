"""What a run writes down after each epoch."""

from pydantic import BaseModel, ConfigDict


class EpochRecord(BaseModel):
    """One epoch. Losses are means a sample; accuracies are shares of the bins with a count of 1…max_count."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    steps: int
    images: int
    image_size: int
    seconds: float
    train_loss: float  # the loss that is minimised
    train_accuracy: float
    validation_loss: float  # -log of the true count's probability among 1…max_count
    validation_accuracy: float
    learning_rate: float
    gradient_norm: float
    predicted: tuple[int, ...]  # how often each count was predicted on validation
    times: dict[str, float]  # seconds of each part
    compute_share: float  # share of the time in forward, backward and optimiser
    gpu_use: float | None = None
