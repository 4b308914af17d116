"""The whole training of a run, stage by stage; started again after an interruption, it continues where it stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch import Tensor, nn

from agents.algorithms.stage2 import train_agent, whole_rollouts
from agents.evaluation.rollout import full_resolution_accuracy, glance_accuracy
from agents.policies.baselines import FIXED_POLICIES
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.protocol import LocationPolicy
from agents.policies.weights import load_policy, save_policy
from agents.runs.config import RunConfig
from agents.runs.folder import RunFolder, full_resolution_file, start_folder
from agents.runs.images import RunImages, check_classes
from agents.runs.log import Reporter, RunLog
from agents.runs.policy_training import (
    BestCheckpoint,
    HeldOutCurve,
    Validation,
    check_stage2,
    check_weights,
    compiles_stage2,
)
from agents.runs.results import evaluate_run, is_evaluated
from agents.runs.run import LoadedRun, load_configured, new_agent, policy_env, start_networks
from agents.runs.split_warnings import split_warnings
from agents.runs.step_memory import FULL_RESOLUTION, LOW_RESOLUTION, STAGE1, STAGE2, STAGE3, step_sentences
from classifiers.checkpoints import load_classifier, load_full_resolution, save_classifier, save_full_resolution
from classifiers.data.source import ImageSource
from classifiers.devices import free_memory
from classifiers.files import write_json
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.pretrained import imagenet_ids, rows_of_classes
from classifiers.training.distributed import is_first_process, local_device, process_count, wait_for_all, wait_for_first
from classifiers.training.fit_spec import FitSpec
from classifiers.training.object_guide import ObjectGuide, imagenet_label
from classifiers.training.stages import balanced_class_weights, train_full_resolution, train_sequences

_LEARNED_IMAGES = 500  # training images that tell whether a network has learned anything
_BY_HEART = 0.2  # errors on training images, as a share of those on other images, below which a policy learns little


class Pipeline:
    """Trains a run: initialization, stages I, II and III (Section 3.3), then the evaluation on held-out images.

    Each stage's result is a file; a stage whose file is there is not trained again.

    Args:
        config: everything that decides the run.
        folder: the run's.
        reporter: shows progress.
    """

    def __init__(self, config: RunConfig, folder: Path | str, reporter: Reporter) -> None:
        self.config, folder = config, Path(folder)
        self.device = local_device(config.device)
        self.files = RunFolder(folder)
        self.reporter = reporter
        self.log = RunLog(self.files.log, folder / "tensorboard")
        self.rounds = [*map(self.files.round, range(1, config.rounds)), self.files]
        self.env_steps = 0  # that the policy learned from
        self.images = RunImages(config, reporter)

    def is_finished(self) -> bool:
        """Whether the run has all that it is to have: networks, policies, and an evaluation with these settings."""
        config, start = self.config, self.config.start
        needed = [self.files.full_resolution] if start is None else []
        needed += [self.files.classifier(1)] if start is None or config.start_stage == 1 else []
        for files in self.rounds:
            needed += [] if config.stage2.agent in FIXED_POLICIES else [files.policy]
            needed += [files.classifier(3)] if config.stage3.epochs > 0 else []
        return all(path.is_file() for path in needed) and is_evaluated(config, self.files)

    def run(self, policies: Collection[str] | None = None) -> dict[str, Any]:
        """Trains what is not trained yet and evaluates.

        Under `torchrun`, the processes share the training of the networks; the first one alone trains the policy,
        evaluates and writes, while the others sleep.

        Args:
            policies: that are evaluated, see `agents.runs.results.evaluate_run`.

        Returns:
            The metrics, also written to `metrics.json`; empty in processes other than the first.

        Raises:
            ConfigError: if a setting of stage II or the pretrained weights don't work; nothing is trained then.
            ValueError: if config and data don't fit each other, or a file of the run is damaged.
            FileNotFoundError: if data, weights or the run to start from are missing.
            NonFiniteLossError: if a loss stops being a number.
            OSError: if the folder can't be written.
        """
        try:
            return self._run(policies)
        finally:
            self.log.close()

    def _run(self, policies: Collection[str] | None) -> dict[str, Any]:
        config = self.config
        self._check()
        network = self.full_resolution()
        classifier = self.stage1()
        for files in self.rounds:
            fast = frozen(classifier, compile=compiles_stage2(config.stage2, classifier))
            policy = self.stage2(fast, files)
            repeatable = None if config.stage2.agent == "random" else policy  # stage III draws places of its own
            classifier = self.stage3(classifier, repeatable, files)
        if not is_first_process():
            return {}
        self._remove_leftovers()
        names = self.images("test").class_names
        run = LoadedRun(config, frozen(classifier), policy, network, names)
        self.log.begin(None)
        metrics = evaluate_run(run, self.images, self.files, self.reporter, policies=policies)
        metrics["env_steps"] = self.env_steps
        metrics["seconds"] = self.log.seconds()
        self.log.write()
        write_json(self.files.metrics, metrics)
        return metrics

    def _check(self) -> None:
        """Finds what would stop the run later on: missing images or classes, settings and weights that don't work.

        Then says what memory a step of each training needs.
        """
        collection = self.config.collection
        calibration = collection.calibration_split("test")
        labels: dict[str, Tensor] = {}
        for split in dict.fromkeys(("train", "test", calibration)):
            try:
                found = collection.check(split)
                labels |= {} if found is None else {split: found}
            except FileNotFoundError:
                if split in ("train", "test") or self.config.stage2.evaluations:
                    raise  # without the others, no thresholds are computed
        collection.check_groups()
        names = collection.class_names() or ()
        for text in split_warnings(labels, names, calibration, is_weighted=self.config.class_weight is not None):
            self.reporter.note(text)
        if self.config.start is None and not self.files.full_resolution.is_file():
            check_weights(self.config)
        needs_policy = not all(files.policy.is_file() for files in self.rounds)
        buffers = check_stage2(self.config) if needs_policy else 0
        left = {STAGE2} if buffers else set()
        left |= {name for name, paths in self._trained_files().items() if not all(path.is_file() for path in paths)}
        if left and is_first_process():
            free = free_memory(torch.device(self.device))
            if free is not None and self.device == "cpu":
                free //= process_count()
            for sentence in step_sentences(self.config, left, len(self.images("train")), free, buffers):
                self.reporter.note(f"memory of {sentence}")

    def _trained_files(self) -> dict[str, list[Path]]:
        """The networks that each training leaves, by what messages call it."""
        files = self.files
        return {
            FULL_RESOLUTION: [files.full_resolution],
            LOW_RESOLUTION: [files.low_resolution(self.config.classifier.glance_side)],
            STAGE1: [files.classifier(1)],
            STAGE3: [each.classifier(3) for each in self.rounds],
        }

    def _remove_leftovers(self) -> None:
        """Removes the checkpoint of a stage that was killed just after it had written its result."""
        folders = {path.parent for paths in self._trained_files().values() for path in paths}
        for folder in folders | {files.policy.parent for files in self.rounds}:
            for name in ("*training.pt", "best.json", "best.safetensors"):
                for path in folder.glob(name):
                    path.unlink(missing_ok=True)

    def full_resolution(self) -> FullResolutionNetwork | None:
        """The baseline, which f_L starts from; None if the run to start from has none."""
        path = full_resolution_file(self.config, self.files.path)
        if path.is_file():
            return load_full_resolution(path)
        if self.config.start is not None:
            return None
        assert self.config.initialization is not None
        start, title = self.config.initialization, "full-resolution network"
        spec = start.full_resolution
        if start.refit_statistics and spec.freeze_statistics and spec.epochs:
            if not self.files.unlearned.is_file():
                network = self._untrained_network()
                self._fit(title, network, spec, path, train_full_resolution, self._save_if_learned)
                if path.is_file():
                    return network
                self.reporter.note(
                    "The full-resolution network has learned nothing while its batch normalizations kept their "
                    "statistics; it is trained once more with those of each batch"
                )
            spec, title = spec.replace(freeze_statistics=False), f"{title}, once more"
        network = self._untrained_network()
        self._fit(title, network, spec, path, train_full_resolution, self._save_network)
        return network

    def _untrained_network(self) -> FullResolutionNetwork:
        assert self.config.initialization is not None
        encoder = self._new_encoder(self.config.initialization.weights)
        return FullResolutionNetwork(encoder, resize_mode=self.config.classifier.resize_mode)

    def _save_if_learned(self, path: Path, network: FullResolutionNetwork) -> None:
        """Saves a network that tells its training images apart, else what it reaches on them."""
        source = self.images("train")
        accuracy = full_resolution_accuracy(network, source, max_images=_LEARNED_IMAGES)
        frequent = float(source.all_labels().bincount().max()) / len(source)
        error = math.sqrt(frequent * (1 - frequent) / min(len(source), _LEARNED_IMAGES))
        if accuracy > frequent + 2 * error:
            self._save_network(path, network)
        else:
            path.with_name(f"{path.stem}.training.pt").unlink(missing_ok=True)  # the next training has the same one
            write_json(self.files.unlearned, {"accuracy": accuracy, "most_frequent_class": frequent})

    def low_resolution(self) -> FullResolutionNetwork:
        """The full-resolution network fine-tuned on images of the glance's size, which f_G starts from."""
        assert self.config.initialization is not None
        spec, target = self.config.initialization.low_resolution, self.config.classifier.glance_side
        network = self.full_resolution()
        assert network is not None
        if self.files.unlearned.is_file():
            spec = spec.replace(freeze_statistics=False)
        for side in (*self.config.initialization.low_resolution_sides, target):
            path = self.files.low_resolution(side)
            if path.is_file():
                network = load_full_resolution(path)
                continue
            network = FullResolutionNetwork(network.encoder, (side, side), self.config.classifier.resize_mode)
            title = f"low-resolution network, {side}"
            self._fit(title, network, spec, path, train_full_resolution, self._save_network)
        return network

    def stage1(self) -> GlanceFocusClassifier:
        """f_G, f_L and f_C, trained with random patches."""
        config, path = self.config, self.files.classifier(1)
        if path.is_file():
            return self._checked(*load_configured(path, config.classifier), str(path))
        if config.stage1 is None:
            classifier = self._checked(*start_networks(config), str(config.start))
            if config.start == "task" and is_first_process():
                self._save_classifier(path, classifier)  # the task may change
            return classifier
        torch.manual_seed(config.seed)
        if config.start is None:
            classifier = self._new_classifier()
        else:
            classifier = self._checked(*start_networks(config), str(config.start))
        train = partial(train_sequences, policy=None, guide=self._guide())
        self._fit("stage I", classifier, config.stage1, path, train, self._save_classifier)
        return classifier

    def _checked(self, classifier: GlanceFocusClassifier, names: tuple[str, ...], where: str) -> GlanceFocusClassifier:
        check_classes(names, self.images("train"), where)
        return classifier.to(self.device)

    def _new_classifier(self) -> GlanceFocusClassifier:
        """f_G and f_L initialized from the networks that were trained before (Section 3.4)."""
        classifier = GlanceFocusClassifier(self.config.classifier, len(self.images("train").class_names))
        assert self.config.initialization is not None
        if self.config.initialization.networks_from == "weights":
            return self._from_weights(classifier)
        full = self.full_resolution()
        assert full is not None
        if not self.config.classifier.shares_encoder:
            classifier.global_encoder.load_state_dict(self.low_resolution().encoder.state_dict())
        classifier.local_encoder.load_state_dict(full.encoder.state_dict())
        for encoder in (classifier.global_encoder, classifier.local_encoder):
            encoder.use_preprocessing(full.encoder.preprocessing)
        return classifier

    def _from_weights(self, classifier: GlanceFocusClassifier) -> GlanceFocusClassifier:
        """f_G and f_L as they were pretrained; where the classes are others, they predict all alike."""
        assert self.config.initialization is not None
        pretrained = self._new_encoder(self.config.initialization.weights)
        names = self.images("train").class_names
        if rows_of_classes(len(imagenet_ids()), len(names), names) is None:
            nn.init.zeros_(pretrained.classifier.weight)
            nn.init.zeros_(pretrained.classifier.bias)
        for encoder in (classifier.global_encoder, classifier.local_encoder):
            encoder.load_state_dict(pretrained.state_dict())
            encoder.use_preprocessing(pretrained.preprocessing)
        return classifier

    def _guide(self) -> ObjectGuide | None:
        spec = self.config.objects
        if spec is None:
            return None
        encoder = build_encoder(spec.encoder, len(imagenet_ids()), spec.weights, may_replace_classifier=False)
        return ObjectGuide(encoder, imagenet_label(spec.imagenet_class)).to(self.device)

    def stage2(self, classifier: FrozenClassifier, files: RunFolder) -> LocationPolicy:
        """The policy of a round, trained on the frozen classifier."""
        spec, path = self.config.stage2, files.policy
        if spec.agent in FIXED_POLICIES:
            return FIXED_POLICIES[spec.agent](self.config.seed)
        with closing(policy_env(classifier, self.images.training(self.config.seed), spec)) as env:
            agent = new_agent(env, spec, self.config.seed)
            self.env_steps = whole_rollouts(agent, spec.env_steps)
            if not path.is_file() and is_first_process():
                if self.config.start_stage == 3 and files is self.rounds[0]:
                    assert self.config.start is not None
                    load_policy(RunFolder(start_folder(self.config.start)).policy, agent)
                    save_policy(path, agent)
                else:
                    self._warn_of_learning_by_heart(classifier)
                    self._train_policy(agent, path, classifier)
        wait_for_first(str(path.absolute()))
        return DeterministicPolicy(load_policy(path, agent))

    def _warn_of_learning_by_heart(self, classifier: FrozenClassifier) -> None:
        """Says so where the glance already tells the label of a training image, so that no look earns a reward."""
        try:
            unseen = glance_accuracy(classifier, self.images.calibration("test"), max_images=_LEARNED_IMAGES)
        except FileNotFoundError:
            return  # the evaluation in the end names what is missing
        source = self.images.training(self.config.seed)
        seen = glance_accuracy(classifier, source, max_images=_LEARNED_IMAGES)
        if 1 - seen < (1 - unseen) * _BY_HEART:
            self.reporter.note(
                f"The glance alone is right on {seen:.2f} of the training images and on {unseen:.2f} of images that "
                "the networks have not seen: they know the training images by heart, so no look is rewarded there and "
                "the policy learns little; train them for fewer epochs (initialization.low_resolution, stage1), or on "
                "larger shifts and zooms"
            )

    def _train_policy(self, agent: Any, path: Path, classifier: FrozenClassifier) -> None:
        spec = self.config.stage2
        stage = self._stage_name(path)
        advance = self.reporter.track(_in_words(stage, "stage II: policy"))
        self.log.begin(stage)

        def note(figures: dict[str, float]) -> None:
            self.log.add(stage, min(agent.num_timesteps, self.env_steps), figures)
            self.log.write()  # a training that is interrupted does not evaluate again

        def held_out() -> ImageSource:
            return self.images.calibration("test")

        validation = Validation(agent, classifier, held_out, note)
        curve = HeldOutCurve(agent, classifier, held_out, self.log, stage)
        best = BestCheckpoint(agent, path.parent, validation.accuracy, spec.evaluations) if spec.evaluations else None

        def on_rollout(done: int, total: int, figures: dict[str, float]) -> None:
            self.log.add(stage, done, figures)
            advance(done, total, {name: value for name, value in figures.items() if name == "reward"})
            curve.evaluate_if_due(done, total)
            if best is not None:
                best.evaluate_if_due(done, total)

        checkpoint = path.parent / "training.pt"
        with closing(Logger(None, [TensorBoardOutputFormat(str(self.files.path / "tensorboard" / stage))])) as logger:
            agent.set_logger(logger)
            train_agent(
                agent,
                spec.env_steps,
                seed=self.config.seed,
                action_std_schedule=spec.action_std_schedule,
                checkpoint=checkpoint,
                on_rollout=on_rollout,
                on_checkpoint=self.log.write,
            )
        self.log.write()
        if best is not None:
            best.restore()
        self._warn_of_collapse(validation)
        save_policy(path, agent)
        checkpoint.unlink(missing_ok=True)
        if best is not None:
            best.remove()

    def _warn_of_collapse(self, validation: Validation) -> None:
        """Says so before stage III trains the networks where a collapsed policy looks."""
        try:
            found = validation.diagnose()
        except FileNotFoundError:
            return  # the evaluation in the end names what is missing
        if found.collapsed:
            self.reporter.note(found.explanation)

    def stage3(
        self, classifier: GlanceFocusClassifier, policy: LocationPolicy | None, files: RunFolder
    ) -> GlanceFocusClassifier:
        """f_G, f_L and f_C, fine-tuned with a round's policy's patches; as they were if there is no stage III."""
        path = files.classifier(3)
        if path.is_file():
            return load_classifier(path)[0].to(self.device)
        if self.config.stage3.epochs == 0:
            return classifier
        train = partial(train_sequences, policy=policy, guide=self._guide())
        self._fit("stage III", classifier, self.config.stage3, path, train, self._save_classifier)
        return classifier

    def _new_encoder(self, weights: str | None) -> Any:
        torch.manual_seed(self.config.seed)
        names = self.images("train").class_names
        return build_encoder(self.config.classifier.encoder, len(names), weights, names)

    def _fit(
        self,
        title: str,
        model: Any,
        spec: FitSpec,
        path: Path,
        train: Callable[..., object],
        save: Callable[[Path, Any], None],
    ) -> None:
        """Trains a model, writes it, and removes the checkpoint that it no longer needs."""
        stage = self._stage_name(path)
        advance = self.reporter.track(_in_words(stage, title))
        checkpoint = path.parent / f"{path.stem}.training.pt"
        model.to(self.device, memory_format=torch.channels_last)

        def on_epoch(epoch: int, figures: dict[str, float]) -> None:
            self.log.add(stage, epoch, figures)
            self.log.write()

        self.log.begin(stage)
        train(
            model,
            source=self.images.training(self.config.seed),
            spec=spec,
            class_weights=self._class_weights(),
            seed=self.config.seed,
            checkpoint=checkpoint,
            on_progress=advance,
            on_epoch=on_epoch,
        )
        if is_first_process():
            self.log.write()
            save(path, model)
            checkpoint.unlink(missing_ok=True)
        wait_for_all()

    def _class_weights(self) -> Tensor | None:
        if self.config.class_weight is None:
            return None
        source = self.images("train")
        return balanced_class_weights(source.all_labels(), len(source.class_names))

    def _stage_name(self, path: Path) -> str:
        """What the log calls the training that ends in this file: `stage3`, `round_1/stage2`, `low_resolution_48`."""
        inner = path.relative_to(self.files.path)
        return inner.stem if inner.parent.name == "initialization" else inner.parent.as_posix()

    def _save_network(self, path: Path, network: FullResolutionNetwork) -> None:
        save_full_resolution(path, network, self.config.classifier.encoder)

    def _save_classifier(self, path: Path, classifier: GlanceFocusClassifier) -> None:
        save_classifier(path, classifier, self.images("train").class_names)


def _in_words(stage: str, title: str) -> str:
    before, _, _ = stage.rpartition("/")
    return f"{title}, {before.replace('_', ' ')}" if before else title
