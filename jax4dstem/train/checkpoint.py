"""Checkpoints of a training in progress, by orbax: written atomically, restored bit for bit."""

import json
import logging
from pathlib import Path
from typing import Any

import jax

from jax4dstem.errors import InputError

KEPT = 2  # the newest, and one more in case it is damaged later


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: Made when it does not exist.
        about: What the training is; a checkpoint of another one is refused.
    """

    def __init__(self, folder: str | Path, about: dict[str, Any]):
        import orbax.checkpoint as orbax  # takes a second to import

        logging.getLogger("absl").setLevel(logging.ERROR)
        self.orbax = orbax
        self.about = json.loads(json.dumps(about))
        self.folder = Path(folder).resolve()
        self.manager = orbax.CheckpointManager(
            self.folder,
            options=orbax.CheckpointManagerOptions(
                max_to_keep=KEPT, create=True, enable_async_checkpointing=False
            ),
        )

    def save(self, epoch: int, course: Any) -> None:
        """Keep the state after an epoch."""
        state, best, history = course
        arguments = self.orbax.args
        self.manager.save(
            epoch,
            args=arguments.Composite(
                state=arguments.StandardSave((state, best)),
                about=arguments.JsonSave({"about": self.about, "history": history}),
            ),
        )

    def restore(self, course: Any) -> tuple[Any, Any, list[dict[str, float]]]:
        """The newest state, or the given one when there is none.

        Raises:
            InputError: The checkpoint is of another training, or damaged.
        """
        epoch = self.manager.latest_step()
        if epoch is None:
            return tuple(course)
        arguments = self.orbax.args
        try:
            text = self.manager.restore(
                epoch, args=arguments.Composite(about=arguments.JsonRestore())
            )
            about = text["about"]
        except Exception as error:  # orbax raises whatever its file layers do
            raise self._damaged(error) from error
        if about["about"] != self.about:
            changed = [name for name in self.about if about["about"].get(name) != self.about[name]]
            raise InputError(
                f"the checkpoint in {self.folder} is of another training (different "
                f"{', '.join(changed)}): use another directory or remove it"
            )
        given = (course[0], course[1])
        try:
            found = self.manager.restore(
                epoch,
                args=arguments.Composite(
                    state=arguments.StandardRestore(jax.tree.map(_abstract, given))
                ),
            )
        except Exception as error:
            raise self._damaged(error) from error
        state, best = jax.tree.unflatten(jax.tree.structure(given), jax.tree.leaves(found["state"]))
        return state, best, about["history"]

    def _damaged(self, error: Exception) -> InputError:
        text = str(error).splitlines()
        return InputError(
            f"the checkpoint in {self.folder} is damaged ({text[0][:120] if text else type(error)}): "
            "remove its newest directory to continue from the one before"
        )


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
