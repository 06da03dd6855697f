"""Simplified Chinese: what the figures, checks, warnings and sentences of a record mean."""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    # Where two laws cross.
    "break-even": "从约 {length} 个词元的上下文起，{candidate} 的一步比 {baseline} 的快。",
    # The figures of an arm.
    "figure.ttft_s": "首词元延迟（TTFT）",
    "figure.itl_s": "词元间延迟（ITL）",
    "figure.decode_tokens_per_s": "解码速度",
    "figure.end_to_end_tokens_per_s": "端到端速度",
    "figure.cold_ttft_s": "第一次生成的 TTFT",
    "figure.cold_itl_s": "第一次生成的 ITL",
    "figure.load_s": "模型加载",
    "figure.compile_s": "编译",
    "figure.itl_p50_s": "解码步，p50",
    "figure.itl_p90_s": "解码步，p90",
    "figure.itl_p95_s": "解码步，p95",
    "figure.itl_p99_s": "解码步，p99",
    "figure.itl_tokens": "百分位数所依据的步数",
    "figure.step_lane_cost": "逐步计时的代价",
    "figure.trace_cost": "词元置信度的代价",
    "figure.acceptance": "候选词元接受率",
    "figure.tokens_per_pass": "每次前向计算的词元数",
    "figure.draft_weights_bytes": "草稿模型，权重",
    "figure.draft_kv_cache_bytes": "草稿模型，KV 缓存",
    "figure.pass_s": "一次前向计算的时间",
    "figure.weights_bytes": "权重",
    "figure.kv_cache_bytes": "KV 缓存（实测）",
    "figure.kv_cache_predicted_bytes": "KV 缓存（理论值）",
    "figure.kv_cache_storage_bytes": "KV 缓存（存储）",
    "figure.peak_allocated_bytes": "torch 分配峰值",
    "figure.peak_reserved_bytes": "torch 保留峰值",
    "figure.device_used_bytes": "整卡已用显存",
    "figure.process_rss_bytes": "进程内存（RSS）",
    "figure.step_peak_bytes": "一步的峰值",
    "figure.allocator_slack_bytes": "分配器保留未用",
    "figure.device_context_bytes": "CUDA 上下文",
    "figure.kernels_bytes": "CUDA kernel 与库",
    "figure.elsewhere_bytes": "驱动及其他进程",
    "figure.unexplained_bytes": "来源不明",
    "figure.padding_share": "填充到桶",
    "figure.proof_steps_checked": "检查过的步数",
    "figure.proof_violations": "不合要求的步数",
    "figure.joules_per_token": "每个词元的能耗",
    "figure.idle_watts": "空闲功率",
    "figure.energy_window_s": "能耗测量时长",
    "figure.floor_s": "单步硬件下限",
    "figure.mbu": "带宽利用率（MBU）",
    "figure.mfu": "算力利用率（MFU）",
    "figure.launch_s": "单步主机开销",
    "computed.ttft_s": "从输入提示词到设备上得到第一个新词元的时间，取一个测量块中各批次的平均，再取各测量块的中位数。",
    "computed.itl_s": "一个测量块中解码步的平均时间，以吞吐方式计时；取各测量块的中位数。",
    "computed.decode_tokens_per_s": "每个序列第一个之后的新词元数 ÷ 解码时间，以吞吐方式计时；取各测量块的中位数。",
    "computed.end_to_end_tokens_per_s": "全部新词元数 ÷（TTFT + 解码时间），以吞吐方式计时；取各测量块的中位数。",
    "computed.cold_ttft_s": "该组在本进程中第一次生成的 TTFT；单独列出，不计入平均。",
    "computed.cold_itl_s": "该组第一次生成的解码步平均时间；单独列出，不计入平均。",
    "computed.load_s": "从打开权重文件到模型在设备上就绪的时间。",
    "computed.compile_s": "第一次生成中用于编译或捕获的时间，每种形状一次。",
    "computed.itl_p50_s": "逐词元计时的单个解码步的第 50 百分位数；仅供描述，各步之间相关。",
    "computed.itl_p90_s": "逐词元计时的单个解码步的第 90 百分位数；仅供描述，各步之间相关。",
    "computed.itl_p95_s": "逐词元计时的单个解码步的第 95 百分位数；仅供描述，各步之间相关。",
    "computed.itl_p99_s": "逐词元计时的单个解码步的第 99 百分位数；仅供描述，各步之间相关。",
    "computed.itl_tokens": "以逐词元方式逐个计时的解码步数。",
    "computed.step_lane_cost": "逐词元计时的解码时间 ÷ 吞吐方式的解码时间，减 1。",
    "computed.trace_cost": "记录词元置信度时的解码时间 ÷ 吞吐方式的解码时间，减 1。",
    "computed.acceptance": "被接受的词元数 ÷ 提出的候选词元数。",
    "computed.tokens_per_pass": "新词元数 ÷ 模型的前向计算次数，包括预填充。",
    "computed.draft_weights_bytes": "草稿模型在主模型之外占用的权重字节数；草稿就是主模型自己时为 0。",
    "computed.draft_kv_cache_bytes": "一次前向计算之后，草稿模型的缓存占用的最大字节数。",
    "computed.pass_s": "解码时间 ÷ 第一次之后的前向计算次数，包括草稿模型在此之前的计算；取各测量块的中位数。",
    "computed.weights_bytes": "模型参数和缓冲区的字节数，共用的只算一次。",
    "computed.kv_cache_bytes": "最大的批次结束时，缓存各层持有的张量之和。",
    "computed.kv_cache_predicted_bytes": (
        "只由模型配置得出：2 × 层数 × KV 头数 × 头的维度 × 每个数的字节数 × 词元数 × 序列数。"
    ),
    "computed.kv_cache_storage_bytes": "缓存张量背后互不相同的存储的字节数。",
    "computed.peak_allocated_bytes": "清空之后，该组不计时的计算期间 torch 分配器的最高值。",
    "computed.peak_reserved_bytes": "同一次计算期间，torch 分配器从设备取得的最高值。",
    "computed.device_used_bytes": "驱动程序报告的整个设备上所有进程的占用。",
    "computed.process_rss_bytes": "该组不计时的计算之后，被测进程的常驻内存。",
    "computed.step_peak_bytes": "分配峰值减去权重和缓存：一步的激活值、提示词和工作区。",
    "computed.allocator_slack_bytes": "保留峰值减去分配峰值：已从设备取得，但从未同时使用。",
    "computed.device_context_bytes": "在加载任何内容之前，启动 CUDA 所占的显存。",
    "computed.kernels_bytes": "在这次计算之前进入分配器之外的部分：kernel 代码、执行计划（plan）、库的句柄。",
    "computed.elsewhere_bytes": "本进程使用设备之前已被占用的部分：驱动程序和其他进程。",
    "computed.unexplained_bytes": "已用显存减去以上各项、权重和缓存。",
    "computed.padding_share": "没有缓存的解码步输入的词元数 ÷ 实际需要的词元数，减 1；长度恰好时为 0。",
    "computed.proof_steps_checked": "检查过输入内容（词元、缓存长度）是否符合模式要求的前向计算次数。",
    "computed.proof_violations": "其中不符合要求的次数；有一次，运行就是 INVALID（无效）。",
    "computed.joules_per_token": "设备的能量计数器在多次重复生成期间的读数（包括预填充和空闲功率）÷ 新词元数。",
    "computed.idle_watts": "测量之前的设备功率：模型已加载，没有运行任何计算。",
    "computed.energy_window_s": "读取能量的时间长度。",
    "computed.floor_s": "按本机实测的带宽和 FLOP 速率，一个解码步最短需要的时间。",
    "computed.mbu": "达到的内存带宽 ÷ 本机实测的上限。",
    "computed.mfu": "达到的 FLOP 速率 ÷ 本机实测的上限。",
    "computed.launch_s": "一个解码步中，主机在启动 kernel 而设备没有计算的时间。",
    # The sentences of the diagnosis.
    "diagnosis.arithmetic": "缓存省去了多少运算，这又换来多少时间。",
    "diagnosis.reading": "一步必须读取权重和缓存：按本机带宽读完需要一定时间，实际用时比这更长。",
    "diagnosis.cache_bytes": "缓存到运行结束时占用的内存，随词元数增加。",
    "diagnosis.energy": "两组每个词元的能耗不同。",
    "diagnosis.communication": "一步的时间中，有一部分用于各进程之间交换张量（张量并行的通信）。",
    "diagnosis.rebuilding": "缓存丢失后重建它的代价。",
    "diagnosis.launch": (
        "单步大多耗在 CPU 启动 kernel 上，上下文较短时缓存省不出时间；请用 torch.compile 或 CUDA Graph，或增大 "
        "batch size。"
    ),
    "diagnosis.break_even": "缓存从多长的上下文开始划算。",
    "diagnosis.growth": "从最短到最长的上下文，各组的一步变为几倍长。",
    "diagnosis.first_visit": (
        "首次遇到某个长度的一步更慢，而真实解码的每一步都是新长度；换用另一种 attention 也许可以避免。"
    ),
    "diagnosis.preparing": "编译或捕获在第一次生成时花的时间，每种形状一次。",
    "diagnosis.padding": "填充到桶的整数倍，使一步多输入了词元；较小的桶增加得少，但要准备更多形状。",
    "diagnosis.all_logits": "循环为所有位置计算 logits，而只有最后一个位置有用；请只要求最后一个。",
    "diagnosis.habit": "手写循环中的这种写法使一步变慢；请改掉它。",
    "diagnosis.proposals": "候选词元有多少被接受，一次前向计算因此得到几个词元，以及这是否划算。",
    "diagnosis.shared_prefix": "各提示词共同的开头只计算一次，预填充因此少输入一些词元。",
    "diagnosis.unused_cache": "这一组有缓存，却在每一步重新输入全部词元：它没有使用缓存。",
    "diagnosis.broken_promise": "有的步的输入不符合模式要求，所以这些时间不代表该模式。",
    "diagnosis.other_output": "这一组算出的结果与基线不同，所以速度不算数。",
    "diagnosis.throttled": "设备降频了：请让它冷却，再重新测量。",
    "diagnosis.few_blocks": "测量块太少，不足以得出结论：请增大 measure.blocks。",
    "diagnosis.ambiguous": "区间太宽，无法判断：请增大 measure.blocks，或减少其他负载。",
    "diagnosis.host_speed": (
        "主机的速度在运行期间变化，或与测量上限时不同；单这一点就可能解释较慢的步，所以不再指出其他原因。"
    ),
    "diagnosis.unlike_engines": "两组使用不同的执行引擎（engine），所以比值不只反映缓存。",
    "diagnosis.random_weights": "权重是随机的：时间和内存与真实模型相同，但输出比较很难发现缓存出错。",
    "diagnosis.no_ceilings": (
        "还没有本机的硬件上限，无法说明离它有多近：请运行 `python -m kvbench doctor --ceilings`。"
    ),
    # Warnings.
    "warning.clocks": "设备的时钟在各测量块之间变化：请锁定时钟，或只看在测量块内部比较的比值。",
    "warning.cpu_governor": "CPU 的时钟随负载变化，短的步可能没有全速运行：请改用 performance 调速策略。",
    "warning.debug_build": "这个 torch 是调试版本，慢好几倍：请安装正式版本。",
    "warning.device_shared": "还有其他进程在使用这个设备，它们分走时间和显存。",
    "warning.drift": "从最初的测量块到最后的，速度逐渐变化；加速比在测量块内部比较，几乎不受影响。",
    "warning.host_busy": "测量期间其他进程占用了 CPU：请关闭其他程序。",
    "warning.host_fast": "主机比测量上限时快：保存的上限已经过时，请重新运行 `kvbench doctor --ceilings`。",
    "warning.host_load": "运行开始时机器负载较高，其他程序可能使它变慢。",
    "warning.host_moved": "运行期间主机的速度变了：请关闭其他程序，或稍后再测。",
    "warning.host_slow": "主机比测量上限时慢：请关闭其他程序，或稍后再测。",
    "warning.larger_error": "这一组的舍入误差比单纯的重新计算大，不像是偶然；其他 kernel 也会这样。",
    "warning.memory_headroom": "显存几乎用满，分配器会反复归还和索取内存，这要花时间。",
    "warning.no_steps": "没有单个步的表。",
    "warning.no_text": "没有分词器：提示词是词元编号，记录中没有文本。",
    "warning.noise": "解码步的时间在各测量块之间波动较大：请增大 measure.blocks，或关闭其他程序。",
    "warning.on_battery": "机器正在用电池，时钟可能被压低：请接上电源。",
    "warning.padding_is_text": (
        "模型把填充当成了文本，所以批次中较短的提示词得到不同的结果：请设 workload.batch_size=1，或使用等长的提示词。"
    ),
    "warning.adapter": "应用了 PEFT 适配器：每一步都包含它的层，所以这些数字不是基座模型的。",
    "warning.peft_wrapper": "测量的是去掉 PEFT 包装的模型；适配器的层包括在内，包装本身的开销不包括。",
    "warning.power_cap": "功率上限压低了时钟：这些时间是在此上限下的。",
    "warning.quantised_cache": "缓存量化改变了较多词元，所以写出的是另一段文本：请保留更多的位数，或使用普通缓存。",
    "warning.random_prompts": "没有分词器，也没有提示词：提示词是随机的词元编号。时间是真实的，写出的内容没有意义。",
    "warning.random_weights": "权重是随机的：时间和内存与真实模型相同，但输出比较很难发现缓存出错。",
    "warning.reference_failed": "无法与更高精度的同一模型比较。",
    "warning.sensors_lost": "设备的传感器中途没有回应，不知道它是否降频。",
    "warning.stand_in_text": "模型没有自己的分词器，提示词由字节换算而成，写出的文本没有意义。",
    "warning.stopping_cap": (
        "达到测量块数或时间的上限而停止，还没有达到想要的精度：请增大 measure.max_blocks 或 measure.budget_s，"
        "或关闭其他程序。"
    ),
    "warning.sweep_moved": "扫描期间机器的速度变了，各点之间的比较要谨慎。",
    "warning.tokens_vary": "计时的生成写出了与不计时的不同的词元：kernel 不是确定性的，或有状态被带到下一次。",
    "warning.transformers_untested": "kvbench 没有用这个版本的 transformers 测试过。",
    "warning.unused_tensors": "检查点中有一些张量，模型结构里没有它们的位置。",
    "warning.worker_state": "上一次运行在工作进程中留下了状态。",
    # Checks.
    "check.mode_proof": "每一步的输入（词元和缓存长度）都符合模式要求。",
    "check.token_count": "每个序列写出的新词元数都符合要求。",
    "check.decode_steps": "每个测量块中都有解码速度。",
    "check.blocks": "测量块数足以得出结论。",
    "check.throttling": "设备没有明显降频。",
    "check.ranks": "张量并行的各进程写出的词元相同，持有的字节数与理论值一致。",
    "check.rescore": "解码给出的对数概率与对全文做一次前向计算得到的一致。",
    "check.agreement": "各组的输出一致。",
    "check.interruption": "丢失缓存的一组，写出的词元与保留缓存的一组相同。",
    "check.frontier": "每次搜索都找到了边界或到达上限。",
    "check.audit_timed_tokens": "自检：计时没有改变解码出的词元。",
    "check.audit_same_arm_twice": "自检：同一组测两次，没有被判为不同。",
    "check.audit_fresh_prompts": "自检：重复的提示词像新的提示词一样重新解码。",
    # Checks that failed: what that means, and what to do.
    "check.mode_proof.failed": (
        "有的步的输入（词元或缓存长度）不符合模式要求：模型或它的缓存没有按这个模式工作，这些时间不代表该模式。"
    ),
    "check.token_count.failed": "写出的新词元数不符合要求：解码提前停止或没有停下，速率不能比较。",
    "check.decode_steps.failed": "没有可用的解码速度：请设 workload.stop=ignore，或让生成更长（workload.new_tokens）。",
    "check.blocks.failed": "测量块太少，不足以得出结论：请增大 measure.blocks。",
    "check.throttling.failed": "设备降频太多：请让它冷却，再重新测量。",
    "check.ranks.failed": (
        "张量并行的各进程写出的词元不同，或持有的字节数与理论值不符：它们没有一起解码同一个模型，这些时间不代表它。"
    ),
    "check.rescore.failed": "解码给出的对数概率与对全文做一次前向计算得到的不同，或无法判断：两者之间的概率比不可用。",
    "check.agreement.failed": "输出不同，或未经比较：这样的加速比不算数。",
    "check.interruption.failed": "丢失缓存的一组写出的词元不同：中断之后重建的缓存与丢失的不一样。",
    "check.frontier.failed": (
        "有的搜索没有找到边界：请设 frontier.max_context 或 frontier.max_batch，或放宽 frontier.resolution。"
    ),
    "check.audit_timed_tokens.failed": "自检：计时改变了解码出的词元，这些时间不代表原来的计算。",
    "check.audit_same_arm_twice.failed": (
        "自检：同一组测两次被判为不同，机器波动太大；请关闭其他程序，或增大 measure.blocks。"
    ),
    "check.audit_fresh_prompts.failed": "自检：有内容从一次生成留到下一次，重复的提示词没有重新解码。",
    # What checks and warnings are called, beside their codes.
    "name.mode_proof": "mode_proof（输入检查）",
    "name.token_count": "token_count（词元数）",
    "name.decode_steps": "decode_steps（解码速度）",
    "name.blocks": "blocks（测量块数）",
    "name.throttling": "throttling（降频）",
    "name.ranks": "ranks（张量并行）",
    "name.rescore": "rescore（对数概率）",
    "name.agreement": "agreement（输出一致性）",
    "name.interruption": "interruption（中断）",
    "name.frontier": "frontier（边界搜索）",
    "name.audit_timed_tokens": "audit_timed_tokens（自检：词元）",
    "name.audit_same_arm_twice": "audit_same_arm_twice（自检：重复测量）",
    "name.audit_fresh_prompts": "audit_fresh_prompts（自检：新提示词）",
    "name.clocks": "clocks（时钟变化）",
    "name.cpu_governor": "cpu_governor（CPU 调速）",
    "name.debug_build": "debug_build（调试版本）",
    "name.device_shared": "device_shared（设备被共用）",
    "name.drift": "drift（速度漂移）",
    "name.host_busy": "host_busy（CPU 被占用）",
    "name.host_fast": "host_fast（主机变快）",
    "name.host_load": "host_load（主机负载）",
    "name.host_moved": "host_moved（主机速度变化）",
    "name.host_slow": "host_slow（主机变慢）",
    "name.larger_error": "larger_error（误差较大）",
    "name.memory_headroom": "memory_headroom（显存将满）",
    "name.no_steps": "no_steps（没有单步数据）",
    "name.no_text": "no_text（没有文本）",
    "name.noise": "noise（波动）",
    "name.on_battery": "on_battery（使用电池）",
    "name.padding_is_text": "padding_is_text（填充被当作文本）",
    "name.peft_wrapper": "peft_wrapper（PEFT 包装）",
    "name.power_cap": "power_cap（功率上限）",
    "name.quantised_cache": "quantised_cache（缓存量化）",
    "name.random_prompts": "random_prompts（随机提示词）",
    "name.random_weights": "random_weights（随机权重）",
    "name.reference_failed": "reference_failed（没有高精度参照）",
    "name.sensors_lost": "sensors_lost（传感器无回应）",
    "name.stand_in_text": "stand_in_text（替代文本）",
    "name.stopping_cap": "stopping_cap（达到上限）",
    "name.sweep_moved": "sweep_moved（扫描期间速度变化）",
    "name.tokens_vary": "tokens_vary（词元不稳定）",
    "name.transformers_untested": "transformers_untested（未测试的版本）",
    "name.unused_tensors": "unused_tensors（多余的张量）",
    "name.worker_state": "worker_state（残留状态）",
    "name.adapter": "adapter（适配器）",
}

# The sentences of a record, clause by clause: the English ones and their figures are in `patterns.py`.
CLAUSES: Mapping[str, str] = {
    "whole": "{clauses}。",
    "diagnosis.launch.both": "两组的一步用时 {steps}，其中设备只工作 {busy}，其余时间耗在 CPU 启动 kernel 上",
    "diagnosis.launch.one": "{arm} 的一步用时 {step}，其中设备只工作 {busy}，其余时间耗在 CPU 启动 kernel 上",
    "diagnosis.launch.calls": (
        "{arm} 的一步用时 {step}，其中调用算子（共 {operations} 次，与计算量无关）估计占 {calls}"
    ),
    "diagnosis.launch.more-calls": "；{arm} 的一步用时 {step}，其中调用算子（共 {operations} 次）估计占 {calls}",
    "diagnosis.launch.below": "；上下文短于约 {tokens} 个词元时，缓存省下的时间被它掩盖",
    "diagnosis.launch.tried": "。这次运行中，{mode} 用 engine={engine} 时每步用时 {step}",
    "diagnosis.launch.arms": "。可以试试这样的对比组：{arms}",
    "diagnosis.launch.keys": "。可以试试 {keys}",
    "diagnosis.launch.fewer-launches": (
        "。减少 kernel 的启动次数，或让每个 kernel 做更多工作，会有帮助：用 torch.compile 或 CUDA Graph"
        "（engine=compiled 或 graph），或增大 batch size"
    ),
    "diagnosis.launch.fewer-operations": (
        "。减少算子的调用次数，或让每个算子做更多工作，会有帮助：用 torch.compile（engine=compiled），或增大 batch size"
    ),
    "diagnosis.first_visit.either": ("首次遇到某个长度时，两组的一步都用时 {whole} {unit}，其中 {extra} {unit} "),
    "diagnosis.first_visit.both": (
        "首次遇到某个长度时，{arm} 的一步用时 {whole} {unit}，其中 {extra} {unit}（{other}：{other_whole} {other_unit} "
        "中的 {other_extra} {other_unit}）"
    ),
    "diagnosis.first_visit.one": "首次遇到某个长度时，{arm} 的一步用时 {whole} {unit}，其中 {extra} {unit} ",
    "diagnosis.first_visit.cudnn": "是 cuDNN 在为它制定执行计划",
    "diagnosis.first_visit.attention": "是 attention 在为它做准备",
    "diagnosis.first_visit.alone": "是这个长度的一次性开销",
    "diagnosis.first_visit.allocations": "伴随着设备上的 {count} 次内存分配",
    "diagnosis.first_visit.always": "；而真实解码的每一步都是新长度",
    "diagnosis.first_visit.avoids": "。改用 attention={attention} 可以避免：首次只需 {first}",
    "diagnosis.preparing.compiling": "{arm} 的第一次生成中，编译用了 {time}",
    "diagnosis.preparing.capturing": "{arm} 的第一次生成中，捕获用了 {time}",
    "diagnosis.preparing.building": "{arm} 的第一次生成中，构建 kernel 用了 {time}",
    "diagnosis.preparing.preparing": "{arm} 的第一次生成中，准备工作用了 {time}",
    "diagnosis.preparing.more": "，{arm} 用了 {time}",
    "diagnosis.preparing.each-shape": "，每种形状一次",
    "diagnosis.preparing.paid-back": "；与 {other} 相比，约 {steps} 步之后赚回来",
    "diagnosis.padding.all": (
        "填充到 {bucket} 个词元的整数倍，使 {arm} 的一步多输入 {share}：桶越小，多出的越少，但要准备的形状越多"
    ),
    "diagnosis.all_logits.loop": "{arm} 的循环为每个位置都计算 logits",
    "diagnosis.all_logits.drops": "，还建立一个随即丢弃的缓存",
    "diagnosis.all_logits.built-in": "（这种模型结构只能如此）",
    "diagnosis.all_logits.measured": "：占它用时的 {share}",
    "diagnosis.all_logits.predicted": "：预计它的运算有 {share} 用于没有人读取的 logits",
    "diagnosis.habit.one": "{habit} 这种写法",
    "diagnosis.habit.several": "{habits} 这几种写法合起来",
    "diagnosis.habit.share": "占一步用时的 {share} [{low}, {high}]",
    "diagnosis.habit.nothing": "没有可见的代价：整个区间都在 ±{band} 以内",
    "diagnosis.habit.memory": "，内存峰值还多 {memory}",
    "diagnosis.arithmetic.all": (
        "{first} 的一步要做 {flops} 运算，{second} 的一步 {less}：前者的运算量是后者的 {factor} 倍，用时是 {times} 倍"
    ),
    "diagnosis.arithmetic.padding": "（不计填充给 {arm} 增加的 {share}）",
    "diagnosis.arithmetic.bound": "；{arm} 的瓶颈是计算，达到本机 FLOP 速率的 {share}（MFU）",
    "diagnosis.break_even.begin": "盈亏平衡点：",
    "diagnosis.break_even.crosses": (
        "从约 {tokens} 个词元的上下文起，{candidate} 的一步比 {baseline} 的快（{level} 置信区间 {low} 至 {high}）"
    ),
    "diagnosis.break_even.knee": (
        "从约 {tokens} 个词元的上下文起，{baseline} 的一步不再只是启动 kernel 的时间，{candidate} 的一步更快"
        "（{level} 置信区间从 {low} 以下至 {high}）"
    ),
    "diagnosis.break_even.unclear": (
        "无法判断：在 {low} 至 {high} 个词元之间，{candidate} 的一步既不明显快于也不明显慢于 {baseline} 的"
    ),
    "diagnosis.break_even.always": (
        "不在测量范围之内：从 {low} 到 {high} 个词元，{candidate} 的一步在每个长度上都更快"
    ),
    "diagnosis.break_even.never": (
        "不在测量范围之内：从 {low} 到 {high} 个词元，{candidate} 的一步在任何长度上都不更快"
    ),
    "diagnosis.break_even.since": "从 {tokens} 个词元起，{candidate} 的一步明显更快；更短时无法判断",
    "diagnosis.break_even.until": "到 {tokens} 个词元为止，{candidate} 的一步明显更慢；更长时无法判断",
    "diagnosis.break_even.interval-by-points": "；规律与测量点不符，所以区间只依据测量点",
    "diagnosis.break_even.by-points": "；规律与测量点不符，所以只依据测量点",
    "diagnosis.growth.all": (
        "上下文从 {shortest} 到 {longest} 个词元，{first} 的一步变为 {grown} 倍长，{second} 的变为 {other} 倍"
    ),
    "diagnosis.proposals.nothing": "{arm} 没有找到可提出的候选：每次前向计算只得到一个词元，与 {other} 一样",
    "diagnosis.proposals.accepted": "候选词元有 {share} 被接受，{arm} 的一次前向计算平均得到 {per_pass} 个词元",
    "diagnosis.proposals.time": "；一次前向计算用时 {time}，而 {other} 的一步用时 {step}",
    "diagnosis.proposals.pays": "，划算：解码速度为基线的 {ratio}",
    "diagnosis.proposals.costs": "，得不偿失：解码速度只有基线的 {ratio}",
    "diagnosis.proposals.draft": "。草稿模型的权重另占 {bytes}",
    "diagnosis.shared_prefix.all": (
        "各提示词共同的 {shared} 个词元只计算一次：预填充输入 {once} 个词元，而不是 {whole} 个"
    ),
    "diagnosis.shared_prefix.time": "，首词元延迟为 {mine}，而不是 {theirs}",
    "diagnosis.reading.all": (
        "{arm} 的一步要读取 {read} 的权重和缓存：按本机的带宽 {rate} 需要 {least}，实际用时 {step}（MBU {used}）"
    ),
    "diagnosis.reading.near": ("，已接近本机的极限：只有减少读取的字节数，或让每次读取服务更多序列，才能再提高"),
    "diagnosis.rebuilding.all": "在 {tokens} 个词元处重建丢失的缓存用了 {time}",
    "diagnosis.rebuilding.paid-back": "，再生成 {steps} 个新词元就赚回来",
    "diagnosis.communication.all": (
        "{arm} 的一步用时 {step}，其中 {time} 是 {ranks} 个进程（rank）之间的通信（{share}）"
    ),
    "diagnosis.communication.other": "；{other} 的 {other_step} 中有 {other_time}",
    "diagnosis.cache_bytes.one": "运行结束时，一个序列的缓存占 {held}",
    "diagnosis.cache_bytes.many": "运行结束时，{sequences} 个序列的缓存共占 {held}",
    "diagnosis.cache_bytes.whole-one": "缓存一次分配完毕：一个序列占 {held}",
    "diagnosis.cache_bytes.whole-many": "缓存一次分配完毕：{sequences} 个序列共占 {held}",
    "diagnosis.cache_bytes.token-of-each": "，每个序列的每个词元 {per_token}",
    "diagnosis.cache_bytes.token": "，每个词元 {per_token}",
    "diagnosis.cache_bytes.higher": "；内存峰值比没有缓存时高 {apart}",
    "diagnosis.cache_bytes.lower": "；内存峰值比没有缓存时低 {apart}",
    "diagnosis.energy.cache-saves": "缓存使每个词元的能耗减少 {share}",
    "diagnosis.energy.cache-adds": "缓存使每个词元的能耗增加 {share}",
    "diagnosis.energy.saves": "{arm} 每个词元的能耗减少 {share}",
    "diagnosis.energy.adds": "{arm} 每个词元的能耗增加 {share}",
    "diagnosis.energy.instead": "：{mine}，而不是 {theirs}（含空闲功率）",
    "diagnosis.random_weights.all": "权重是随机的：用时与真实模型相同，但输出比较很难发现缓存出错",
    "diagnosis.no_ceilings.all": "还不知道一步离本机的极限有多近：运行一次 `{command}` 即可测出",
    "diagnosis.unlike_engines.all": "这个比值不只反映缓存，也反映执行引擎（engine）：{baseline} 对 {candidate}",
    "diagnosis.unlike_engines.none": "；没有两组只差缓存",
    "diagnosis.unlike_engines.like": "。执行引擎相同时，{fast} 的解码速度是 {slow} 的 {times} 倍",
    "diagnosis.unlike_engines.more": "，{fast} 是 {slow} 的 {times} 倍",
    "diagnosis.ambiguous.all": "区间从 {low} 到 {high}，因为比值在各测量块之间波动 {spread}",
    "diagnosis.ambiguous.hardly": ("；只增加测量块恐怕还是无法判断：请关闭其他程序，或让每个测量块解码更多词元"),
    "diagnosis.ambiguous.blocks": ("；如果估计值不变，约 {blocks} 个测量块就能得出结论（measure.blocks={blocks}）"),
    "diagnosis.throttled.most": "设备在 {count} 个测量块中降频",
    "diagnosis.throttled.causes": "（原因：{causes}）",
    "diagnosis.throttled.rest": "：这些时间不代表它的正常速度；请让它冷却一段时间，再重新测量",
    "diagnosis.throttled.some": (
        "计入的测量块中有 {count} 个降频，其中两种模式都比正常时慢；比值在测量块内部比较，影响不大"
    ),
    "diagnosis.few_blocks.all": "{count} 个测量块得出的区间并不可靠：{keys} 就够了",
    "diagnosis.unused_cache.every": "{arm} 的循环在每一步都重新输入全部词元：它没有使用缓存",
    "diagnosis.unused_cache.some": "{arm} 的循环在 {steps} 步中有 {again} 步重新输入全部词元：它没有使用缓存",
    "diagnosis.broken_promise.all": "{arm} 的 {passes} 次前向计算中，有 {count} 次的输入不符合模式要求",
    "diagnosis.broken_promise.first": "（最先是第 {place} 次：输入 {tokens} 个词元，缓存长度从 {before} 变为 {after}）",
    "diagnosis.broken_promise.first-past": (
        "（最先是第 {place} 次：输入 {tokens} 个词元，缓存长度从 {before} 变为 {after}，应为 {right}）"
    ),
    "diagnosis.broken_promise.rest": "：这些时间不代表该模式",
    "diagnosis.other_output.all": "{candidate} 计算的与 {baseline} 不同",
    "diagnosis.other_output.apart": "：两者的 logits 相差 {apart}（相对于最大的 logit），而舍入只能解释 {allowed}",
    "diagnosis.other_output.parts": (
        "：自由生成从第 {token} 个新词元起不同，那里最大的两个 logit 相差 {apart}，舍入无法解释"
    ),
    "diagnosis.other_output.rest": "，所以它的速度换来的是另一种输出",
    # Warnings.
    "warning.noise.all": "{arm}：一步的用时在各测量块之间波动 {spread}",
    "warning.noise.stands-out": "，{of} 个测量块中有 {count} 个明显偏离，最多为中位数的 {most} 倍",
    "warning.noise.remedy": "：请增大 measure.blocks，或关闭其他程序",
    "warning.random_weights.all": "权重是随机的：时间和内存与真实模型相同，但输出比较很难发现缓存出错",
    "warning.clocks.all": (
        "各测量块结束时，设备的时钟在 {low} 与 {high} MHz 之间：请锁定时钟（`nvidia-smi --lock-gpu-clocks`），"
        "或只看在测量块内部比较的比值"
    ),
    "warning.power_cap.all": "设备的功率上限在 {of} 个测量块中的 {count} 个里压低了时钟：这些时间是在此上限下的",
    "warning.memory_headroom.all": "显存用了 {full}：接近用满时，分配器会反复归还和索取显存，这要花时间",
    "warning.device_shared.all": "还有 {count} 个其他进程在使用这个设备，它们分走时间和显存",
    "warning.host_busy.all": "测量期间，其他进程平均占用 {cores} 个 CPU 核心，会拖慢每一步中主机的部分",
    "warning.host_load.all": "运行开始时的平均负载为 {load}（{cores} 个逻辑核心）：其他程序可能使它变慢",
    "warning.cpu_governor.all": (
        "CPU 的时钟随负载变化（调速策略为 {governor}），短的步可能没有全速运行："
        "`cpupower frequency-set -g performance` 可以固定它"
    ),
    "warning.on_battery.all": "机器正在用电池，时钟可能被压低：请接上电源",
    "warning.debug_build.all": "这个 torch 是调试版本，比正式版本慢好几倍：请安装正式版本",
    "warning.host_moved.operation": "一次小运算在测量之前用时 {before}，之后 {after}（{change}）",
    "warning.host_moved.product": "一次小矩阵乘法在测量之前用时 {before}，之后 {after}（{change}）",
    "warning.host_moved.read": "读取 {size} 在测量之前用时 {before}，之后 {after}（{change}）",
    "warning.host_moved.moved": "，可见主机的速度在运行期间变了",
    "warning.host_moved.remedy": "：请关闭其他程序，或稍后再测",
    "warning.host_slow.operation": (
        "一次小运算用时 {now}，而 `kvbench doctor --ceilings` 测量本机时为 {then}（{change}）"
    ),
    "warning.host_slow.product": (
        "一次小矩阵乘法用时 {now}，而 `kvbench doctor --ceilings` 测量本机时为 {then}（{change}）"
    ),
    "warning.host_slow.read": "读取 {size} 用时 {now}，而 `kvbench doctor --ceilings` 测量本机时为 {then}（{change}）",
    "warning.host_slow.slower": "，可见主机比那时慢：请关闭其他程序，或稍后再测",
    "warning.host_fast.operation": (
        "一次小运算用时 {now}，而 `kvbench doctor --ceilings` 测量本机时为 {then}（{change}）"
    ),
    "warning.host_fast.product": (
        "一次小矩阵乘法用时 {now}，而 `kvbench doctor --ceilings` 测量本机时为 {then}（{change}）"
    ),
    "warning.host_fast.read": "读取 {size} 用时 {now}，而 `kvbench doctor --ceilings` 测量本机时为 {then}（{change}）",
    "warning.host_fast.faster": "，可见主机比那时快：保存的上限已经过时，请重新运行 `kvbench doctor --ceilings`",
    "warning.drift.slower": "从最初的测量块到最后的，{arm} 慢了 {change}",
    "warning.drift.faster": "从最初的测量块到最后的，{arm} 快了 {change}",
    "warning.drift.rest": (
        "（Kendall τ = {tau}，p = {p}）：它的中位数混合了不同的速度；加速比在测量块内部比较，几乎不受影响"
    ),
    "warning.tokens_vary.all": (
        "{arm}：某次计时的生成写出了与不计时的不同的词元：kernel 不是确定性的，或有状态被带到下一次"
    ),
    "warning.larger_error.all": (
        "{arm}：舍入误差是普通重新计算的 {ratio} 倍，在比较过的 {of} 个步和行中有 {count} 个更大：不像是偶然，"
        "不过其他 kernel 也会这样"
    ),
    "warning.quantised_cache.all": (
        "{arm}：缓存量化使比较过的步中有 {share} 最可能的词元不同，所以写出的是另一段文本：请保留更多的位数，"
        "或使用普通缓存"
    ),
    "warning.sensors_lost.all": "设备的传感器中途没有回应，不知道之后它是否降频",
    "warning.stopping_cap.blocks": (
        "测了 {blocks} 个测量块后达到上限，还没有达到想要的精度：请增大 measure.max_blocks，或关闭其他程序"
    ),
    "warning.stopping_cap.budget": (
        "用了 {seconds} 后达到时间上限，还没有达到想要的精度：请增大 measure.budget_s，或关闭其他程序"
    ),
    "warning.stopping_cap.many": "还没有用完 {seconds} 的时间，就已达到 {blocks} 个测量块的上限",
    "warning.no_text.all": "没有分词器：提示词是词元编号，记录中没有文本",
    "warning.random_prompts.all": (
        "没有分词器，也没有提示词：提示词是词表中随机的词元编号（种子 {seed}）。时间与真实提示词相同，"
        "写出的内容没有意义，记录中没有文本"
    ),
    "warning.transformers_untested.all": (
        "transformers {found} 比 kvbench 测试过的最新版本 {newest} 还新；如果出现问题，请运行 pip install "
        "transformers=={newest}"
    ),
    # Checks.
    "check.mode_proof.passed": "{steps} 步的输入（词元和缓存长度）都符合模式要求",
    "check.token_count.exactly": "{visits} 次生成中，每个序列都正好写出 {tokens} 个新词元",
    "check.token_count.at-most": "{visits} 次生成中，每个序列都写出 1 至 {tokens} 个新词元",
    "check.token_count.failed": "{visits} 次生成中有 {wrong} 次写出的词元数不符合要求",
    "check.decode_steps.all": "{of} 个测量块中有 {count} 个没有 {arm} 的解码速度",
    "check.decode_steps.ended": "：每个序列都在第一个词元就结束",
    "check.decode_steps.no-time": "：解码步没有用时",
    "check.blocks.all": "测了 {blocks} 个测量块，得出结论至少需要 {least} 个",
    "check.agreement.arm": "{arm}：{output}",
    "check.ranks.same": "{visits} 次生成中，{ranks} 个进程（rank）写出的词元都相同",
    "check.ranks.different": "有 {count} 次生成，某个进程写出的词元与 rank 0 不同",
    "check.rescore.arm": "{arm}：{output}",
    "check.throttling.none": "{of} 个测量块都没有降频",
    "check.throttling.all": "{of} 个测量块中有 {count} 个降频",
    "check.throttling.repeated": "（重新测量 {repeated} 个之后）",
    "check.throttling.causes": "（原因：{causes}）",
    "check.interruption.same": "{interrupted} 与 {kept} 写出的词元相同",
    "check.interruption.different": "{interrupted} 与 {kept} 写出的词元不同",
    "check.interruption.rounding": "，但没有超出舍入误差",
    "check.interruption.quantised": "，但没有超出缓存量化的影响",
    "check.frontier.all": "{of} 次搜索中有 {count} 次找到了边界或到达上限",
    "check.audit_timed_tokens.same": "{arm}：计时与不计时写出的词元相同",
    "check.audit_timed_tokens.different": "{arm}：{count} 次计时的生成写出了与不计时的不同的词元",
    "check.audit_same_arm_twice.arm": "{arm} 与自己相比为 {ratio}：{verdict}",
    "check.audit_fresh_prompts.arm": "{arm}：重复的提示词的速度是新提示词的 {ratio}：{verdict}",
    "agreement.not-checked": "没有比较（check.agreement=none，或运行在此之前就结束了）",
    # How far apart two outputs are.
    "agreement.apart": "{steps} 步的 logits 最大相对差为 {apart}",
    "agreement.error": (
        "误差是舍入本身的 {ratio} 倍（允许 {allowed}），最差的两步为 {worst} 和 {second} 倍（允许 {worst_allowed} 和 "
        "{second_allowed}）"
    ),
    "agreement.reference": "；对照 {dtype} 下的同一模型，共 {over} 步",
    "agreement.first-arm": "；对照第一组，共 {over} 步",
    "agreement.batches": "（{batches} 批）",
    "agreement.path": "（各步输入相同的词元）",
    "agreement.logits": "；logits 的最大相对差为 {apart}",
    "agreement.rounding": "；单纯舍入为 {noise}",
    "agreement.orders": "（{orders} 种其他求和顺序中最大的：",
    "agreement.other-end": "倒序求和）",
    "agreement.shuffled": "乱序求和）",
    "agreement.twice": "行数加倍）",
    "agreement.padding": "填充 {columns} 列）",
    "agreement.attention": "{attention} attention）",
    "agreement.allowed": "，允许 {limit}",
    "agreement.flips": "；最可能的词元有 {flips} 次不同",
    "agreement.same": "；自由生成的词元相同",
    "agreement.part": "；自由生成从第 {token} 个新词元起不同",
    "agreement.prompt": "（提示词 {prompt}）",
    "agreement.margin": "，那里最大的两个 logit 只差 {margin}",
    "agreement.near-tie": "：几乎并列",
    "agreement.penalty": "：惩罚之后的分数几乎并列",
    "agreement.draw": "：舍入改变了抽样结果",
}
