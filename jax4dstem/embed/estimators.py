"""Autoencoders as scikit-learn estimators: codes for K-means, mixtures, HDBSCAN and UMAP without glue."""

import warnings
from typing import Any, no_type_check

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from jax4dstem import models
from jax4dstem.train import ArrayFeed, Training, train


class _LatentModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What all estimators share: checks, scaling, training, and the methods of scikit-learn.

    Features are centered and divided by one common scale, so that a linear autoencoder finds the
    principal components; put a `StandardScaler` before it to give all features unit variance.
    """

    latent: int
    epochs: int
    batch_size: int
    learning_rate: float
    validation: float
    patience: int | None
    random_state: Any

    def _spec(self, n_features: int, latent: int) -> Any:
        raise NotImplementedError

    def _objective(self) -> Any:
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None, *, target: Any = None) -> "_LatentModel":
        """Train on samples.

        Args:
            X: ``(n, features)``, finite.
            y: Ignored.
            target: What X shall be reconstructed to, such as the clean data; default: X.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        target = X if target is None else check_array(target, dtype=X.dtype)
        if target.shape != X.shape:
            raise ValueError(f"X {X.shape} and target {target.shape} differ in shape")
        self.used_ = self._used(X)
        x, target = X[:, self.used_], target[:, self.used_]
        self.mean_ = x.mean(axis=0)
        self.scale_ = float(np.sqrt(np.mean((x - self.mean_) ** 2))) or 1.0
        latent = self.latent
        if latent > x.shape[1]:
            _warn(f"latent {latent} is clipped to the {x.shape[1]} features")
            latent = x.shape[1]
        if self.batch_size > len(x):
            _warn(f"batch_size {self.batch_size} shrinks to the {len(x)} samples")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        options = Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            patience=self.patience,
            seed=seed,
        )
        spec = self._spec(x.shape[1], latent)
        x, target = self._scaled(x), self._scaled(target)
        fitted, held = self._split(len(x))
        self.trained_ = train(
            spec,
            self._objective(),
            ArrayFeed(x[fitted], target[fitted]),
            options,
            validation=ArrayFeed(x[held], target[held]) if len(held) else None,
        )
        self.n_latent_ = latent
        self.history_ = self.trained_.history
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Codes ``(n, latent)``; of a variational model the means."""
        x = self._checked(X)
        return self.trained_.encode(self._scaled(x[:, self.used_])).astype(x.dtype)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Decoded samples ``(n, features)`` of codes ``(n, latent)``."""
        check_is_fitted(self)
        Z = check_array(Z, dtype=[np.float64, np.float32])
        return self._whole(self.trained_.decode(Z)).astype(Z.dtype)

    def reconstruct(self, X: Any) -> np.ndarray:
        """Samples passed through the code; denoised, when the model is."""
        x = self._checked(X)
        return self._whole(self.trained_.reconstruct(self._scaled(x[:, self.used_]))).astype(
            x.dtype
        )

    def reconstruction_error(self, X: Any) -> np.ndarray:
        """Mean squared difference of every sample from its reconstruction, ``(n,)``, in units of X²."""
        x = self._checked(X)
        return np.mean((x - self.reconstruct(x))[:, self.used_] ** 2, axis=1)

    def score(self, X: Any, y: Any = None) -> float:
        """Share of the variance of X that the reconstruction explains; 1 is perfect."""
        x = self._checked(X)
        total = float(np.mean((x[:, self.used_] - self.mean_) ** 2))
        return 1.0 - float(self.reconstruction_error(x).mean()) / (total or 1.0)

    @property
    def _n_features_out(self) -> int:
        return self.n_latent_

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, dtype=[np.float64, np.float32], reset=False)

    def _used(self, X: np.ndarray) -> np.ndarray:
        """Features that vary; the others are dropped, and come back as their constant."""
        varies = np.ptp(X, axis=0) > 0
        self.constant_ = X[0].copy()
        if varies.all() or not varies.any():
            return np.ones(X.shape[1], bool)
        _warn(f"{int((~varies).sum())} of {X.shape[1]} features are constant and dropped")
        return varies

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean_) / self.scale_

    def _whole(self, x: np.ndarray) -> np.ndarray:
        whole = np.tile(self.constant_.astype(np.float64), (len(x), 1))
        whole[:, self.used_] = x * self.scale_ + self.mean_
        return whole

    def _split(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The last samples are held out: neighbors in a scan are not independent, a random draw leaks."""
        held = min(round(self.validation * n), n - 1)
        return np.arange(n - held), np.arange(n - held, n)


class AutoEncoderEstimator(_LatentModel):
    """A fully connected autoencoder.

    Args:
        latent: Size of the code; at most the number of features.
        hidden: Sizes of the encoder's hidden layers, mirrored in the decoder; ``()`` is linear.
        activation: "relu", "gelu", "tanh" or "linear".
        epochs: Passes over the data.
        batch_size: Samples per step.
        learning_rate: Largest learning rate of Adam.
        validation: Share of the samples, the last ones, that is held out.
        patience: Epochs without a smaller validation loss before training stops.
        random_state: Seed of weights, order and noise.

    Attributes:
        trained_: The `jax4dstem.train.Trained` model, in scaled features.
        history_: Loss by epoch.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = rng.standard_normal((64, 2)) @ rng.standard_normal((2, 10))
        >>> model = AutoEncoderEstimator(2, (), epochs=200, batch_size=64, learning_rate=0.02).fit(X)
        >>> model.transform(X).shape, model.score(X) > 0.99
        ((64, 2), True)

    Reference: Shi et al., npj Comput. Mater. 8, 114 (2022): 512 hidden, 8 latent, ReLU.
    """

    @no_type_check  # scikit-learn's own checks pass anything; `fit` is where it fails
    def __init__(
        self,
        latent: int = 8,
        hidden: tuple[int, ...] = (512,),
        activation: str = "relu",
        *,
        epochs: int = 40,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        validation: float = 0.0,
        patience: int | None = None,
        random_state: Any = 0,
    ):
        self.latent = latent
        self.hidden = hidden
        self.activation = activation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation = validation
        self.patience = patience
        self.random_state = random_state

    def _backbone(self) -> models.Dense:
        return models.Dense(tuple(self.hidden), self.activation)  # type: ignore[arg-type]

    def _spec(self, n_features: int, latent: int) -> Any:
        return models.AutoEncoderSpec((n_features,), latent, self._backbone())

    def _objective(self) -> Any:
        return models.Reconstruction()


class VariationalEstimator(AutoEncoderEstimator):
    """A fully connected variational autoencoder; codes are the posterior means. See `AutoEncoderEstimator`.

    Args:
        latent: Size of the code.
        hidden: Sizes of the encoder's hidden layers.
        activation: Between layers.
        kl_weight: Weight of the divergence (a sum over the code) against the squared error (a mean).
        kl_warmup: Share of the training over which that weight grows from 0.
        epochs: Passes over the data.
        batch_size: Samples per step.
        learning_rate: Largest learning rate of Adam.
        validation: Share of the samples, the last ones, that is held out.
        patience: Epochs without a smaller validation loss before training stops.
        random_state: Seed of weights, order and noise.

    Example:
        >>> X = np.random.default_rng(0).random((20, 5))
        >>> model = VariationalEstimator(2, (4,), epochs=1, batch_size=20).fit(X)
        >>> model.transform(X).shape, model.sample(3).shape
        ((20, 2), (3, 5))
    """

    @no_type_check  # scikit-learn's own checks pass anything; `fit` is where it fails
    def __init__(
        self,
        latent: int = 8,
        hidden: tuple[int, ...] = (512,),
        activation: str = "relu",
        *,
        kl_weight: float = 1e-3,
        kl_warmup: float = 0.1,
        epochs: int = 40,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        validation: float = 0.0,
        patience: int | None = None,
        random_state: Any = 0,
    ):
        super().__init__(
            latent,
            hidden,
            activation,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            validation=validation,
            patience=patience,
            random_state=random_state,
        )
        self.kl_weight = kl_weight
        self.kl_warmup = kl_warmup

    def _spec(self, n_features: int, latent: int) -> Any:
        return models.VariationalSpec((n_features,), latent, self._backbone())

    def _objective(self) -> Any:
        return models.EvidenceBound(kl_weight=self.kl_weight, warmup=self.kl_warmup)

    def sample(self, n: int) -> np.ndarray:
        """Samples ``(n, features)`` decoded from codes drawn from the prior N(0, 1)."""
        check_is_fitted(self)
        random = check_random_state(self.random_state)
        return self.inverse_transform(random.standard_normal((n, self.n_latent_)))


class DenoisingEstimator(AutoEncoderEstimator):
    """An autoencoder that is trained on corrupted inputs. See `AutoEncoderEstimator`.

    With `fit(noisy, target=clean)` it learns to remove the noise of its data; alone, ``fit(X)`` adds
    Gaussian noise of ``noise`` standard deviations of X to the inputs and reconstructs X.

    Args:
        latent: Size of the code.
        hidden: Sizes of the encoder's hidden layers.
        activation: Between layers.
        noise: Standard deviation of the added noise in units of the data's; 0 adds none.
        epochs: Passes over the data.
        batch_size: Samples per step.
        learning_rate: Largest learning rate of Adam.
        validation: Share of the samples, the last ones, that is held out.
        patience: Epochs without a smaller validation loss before training stops.
        random_state: Seed of weights, order and noise.

    Reference: Vincent et al., ICML (2008).
    """

    @no_type_check  # scikit-learn's own checks pass anything; `fit` is where it fails
    def __init__(
        self,
        latent: int = 4,
        hidden: tuple[int, ...] = (128, 64),
        activation: str = "gelu",
        *,
        noise: float = 0.2,
        epochs: int = 300,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        validation: float = 0.0,
        patience: int | None = None,
        random_state: Any = 0,
    ):
        super().__init__(
            latent,
            hidden,
            activation,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            validation=validation,
            patience=patience,
            random_state=random_state,
        )
        self.noise = noise

    def _objective(self) -> Any:
        return models.Reconstruction(corruption=models.GaussianNoise(self.noise))


class ConvolutionalEstimator(_LatentModel):
    """An autoencoder of whole patterns or image patches, flattened to rows. See `AutoEncoderEstimator`.

    Trained on a perfect lattice, it shows defects as reconstruction error.

    Args:
        shape: ``(height, width)`` of a sample; None takes it as one row.
        latent: Size of the code.
        channels: Of the encoder's layers; each halves the image.
        activation: Between layers.
        epochs: Passes over the data.
        batch_size: Samples per step.
        learning_rate: Largest learning rate of Adam.
        validation: Share of the samples, the last ones, that is held out.
        patience: Epochs without a smaller validation loss before training stops.
        random_state: Seed of weights, order and noise.
    """

    @no_type_check  # scikit-learn's own checks pass anything; `fit` is where it fails
    def __init__(
        self,
        shape: tuple[int, int] | None = None,
        latent: int = 8,
        channels: tuple[int, ...] = (16, 32, 64),
        activation: str = "gelu",
        *,
        epochs: int = 40,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        validation: float = 0.0,
        patience: int | None = None,
        random_state: Any = 0,
    ):
        self.shape = shape
        self.latent = latent
        self.channels = channels
        self.activation = activation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation = validation
        self.patience = patience
        self.random_state = random_state

    def _spec(self, n_features: int, latent: int) -> Any:
        return models.AutoEncoderSpec(self._shape(n_features), latent, self._backbone())

    def _backbone(self) -> models.Convolutional:
        return models.Convolutional(tuple(self.channels), self.activation)  # type: ignore[arg-type]

    def _objective(self) -> Any:
        return models.Reconstruction()

    def _shape(self, n_features: int) -> tuple[int, int]:
        height, width = (1, n_features) if self.shape is None else self.shape
        if height * width != n_features:
            raise ValueError(f"{n_features} features are no image of shape {(height, width)}")
        return height, width

    def _used(self, X: np.ndarray) -> np.ndarray:
        """All pixels: an image keeps its shape."""
        self.constant_ = X[0].copy()
        return np.ones(X.shape[1], bool)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return super()._scaled(x).reshape(len(x), *self._shape(x.shape[1]))

    def _whole(self, x: np.ndarray) -> np.ndarray:
        return super()._whole(x.reshape(len(x), -1))


class ConvolutionalVariationalEstimator(ConvolutionalEstimator):
    """A variational autoencoder of whole patterns. See `ConvolutionalEstimator`.

    Args:
        shape: ``(height, width)`` of a sample; None takes it as one row.
        latent: Size of the code.
        channels: Of the encoder's layers.
        activation: Between layers.
        kl_weight: Weight of the divergence (a sum over the code) against the squared error (a mean).
        epochs: Passes over the data.
        batch_size: Samples per step.
        learning_rate: Largest learning rate of Adam.
        validation: Share of the samples, the last ones, that is held out.
        patience: Epochs without a smaller validation loss before training stops.
        random_state: Seed of weights, order and noise.
    """

    @no_type_check  # scikit-learn's own checks pass anything; `fit` is where it fails
    def __init__(
        self,
        shape: tuple[int, int] | None = None,
        latent: int = 8,
        channels: tuple[int, ...] = (16, 32, 64),
        activation: str = "gelu",
        *,
        kl_weight: float = 1e-3,
        epochs: int = 40,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        validation: float = 0.0,
        patience: int | None = None,
        random_state: Any = 0,
    ):
        super().__init__(
            shape,
            latent,
            channels,
            activation,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            validation=validation,
            patience=patience,
            random_state=random_state,
        )
        self.kl_weight = kl_weight

    def _spec(self, n_features: int, latent: int) -> Any:
        return models.VariationalSpec(self._shape(n_features), latent, self._backbone())

    def _objective(self) -> Any:
        return models.EvidenceBound(kl_weight=self.kl_weight)


class RotationInvariantEstimator(_LatentModel):
    """Separates orientation from content of patterns in polar coordinates, flattened to rows.

    ``transform`` gives codes that do not change with the pattern's rotation, ``rotation`` the angle.
    Samples come from `jax4dstem.patterns.polar.to_polar`.

    Args:
        shape: ``(radii, angles)`` of a sample; None takes it as one ring.
        latent: Size of the code.
        hidden: Sizes of the encoder's hidden layers.
        kl_weight: Weight of the divergence (a sum over the code) against the squared error (a mean).
        epochs: Passes over the data.
        batch_size: Samples per step.
        learning_rate: Largest learning rate of Adam.
        validation: Share of the samples, the last ones, that is held out.
        patience: Epochs without a smaller validation loss before training stops.
        random_state: Seed of weights, order and noise.

    Example:
        >>> polar = np.random.default_rng(0).random((20, 3 * 8))
        >>> model = RotationInvariantEstimator((3, 8), 2, (4,), epochs=1, batch_size=20).fit(polar)
        >>> turned = np.roll(polar.reshape(20, 3, 8), 1, axis=2).reshape(20, 24)
        >>> bool(np.allclose(model.transform(turned), model.transform(polar), atol=1e-4))
        True

    Reference: Bepler et al., arXiv:1909.11663 (2019), for the separation; here the angle is in closed form.
    """

    @no_type_check  # scikit-learn's own checks pass anything; `fit` is where it fails
    def __init__(
        self,
        shape: tuple[int, int] | None = None,
        latent: int = 2,
        hidden: tuple[int, ...] = (256,),
        *,
        kl_weight: float = 1e-3,
        epochs: int = 60,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        validation: float = 0.0,
        patience: int | None = None,
        random_state: Any = 0,
    ):
        self.shape = shape
        self.latent = latent
        self.hidden = hidden
        self.kl_weight = kl_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation = validation
        self.patience = patience
        self.random_state = random_state

    def rotation(self, X: Any) -> np.ndarray:
        """Angle of every sample in radians, counter-clockwise, against its decoded content."""
        x = self._checked(X)
        return self.trained_.apply("angle", self._scaled(x)).astype(x.dtype)

    def _spec(self, n_features: int, latent: int) -> Any:
        backbone = models.Dense(tuple(self.hidden), "gelu")
        return models.RotationInvariantSpec(self._shape(n_features), latent, backbone)

    def _objective(self) -> Any:
        return models.AlignedEvidenceBound(self.kl_weight)

    _shape = ConvolutionalEstimator._shape
    _used = ConvolutionalEstimator._used

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        # The mean over angles only: a mean pattern that is not round would turn with no sample.
        rings = self.mean_.reshape(self._shape(x.shape[1])).mean(axis=1, keepdims=True)
        return (x.reshape(len(x), *self._shape(x.shape[1])) - rings) / self.scale_

    def _whole(self, x: np.ndarray) -> np.ndarray:
        rings = self.mean_.reshape(x.shape[1:]).mean(axis=1, keepdims=True)
        return (x * self.scale_ + rings).reshape(len(x), -1)


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=3)
