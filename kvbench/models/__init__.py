"""What is decoded: loading, and the architectures that transformers does not bring.

Importing this package makes `AutoConfig` and `AutoModelForCausalLM` know Yuan 2.0.
"""

from transformers import AutoConfig, AutoModelForCausalLM

from kvbench.models.yuan import YuanForCausalLM
from kvbench.models.yuan_config import YuanConfig

AutoConfig.register("yuan", YuanConfig)
AutoModelForCausalLM.register(YuanConfig, YuanForCausalLM)
