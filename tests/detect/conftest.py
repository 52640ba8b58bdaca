"""What tests of detectors share."""

import pytest

from detect.detectors import resnet_autoencoder


@pytest.fixture(autouse=True, scope="session")
def shallow_resnet50():
    """Stand in for a ResNet50 of random weights: its outputs' shape, a block a stage."""
    make = resnet_autoencoder.frozen_resnet50

    def shallow(weights):
        from transformers import ResNetConfig, ResNetModel

        if weights != "random":
            return make(weights)
        config = ResNetConfig(hidden_sizes=[16, 32, 64, 2048], depths=[1, 1, 1, 1])
        return resnet_autoencoder.ResNetMaps(ResNetModel(config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet_autoencoder, "frozen_resnet50", shallow)
        yield
