"""What is decoded: loading, and the architectures that transformers does not bring.

Importing this package makes transformers' `AutoConfig`, `AutoModelForCausalLM` and `AutoTokenizer` know Yuan 2.0.
"""

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from kvbench.models.yuan import YuanForCausalLM
from kvbench.models.yuan_config import YuanConfig, YuanTokenizer

AutoConfig.register("yuan", YuanConfig)
AutoModelForCausalLM.register(YuanConfig, YuanForCausalLM)
AutoTokenizer.register(YuanConfig, fast_tokenizer_class=YuanTokenizer)
