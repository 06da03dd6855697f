"""Traditional Chinese: what the figures, checks, warnings and sentences of a record mean."""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    # Where two laws cross.
    "break-even": "從約 {length} 個詞元的上下文起，{candidate} 的一步比 {baseline} 的快。",
    # The figures of an arm.
    "figure.ttft_s": "首詞元延遲（TTFT）",
    "figure.itl_s": "詞元間延遲（ITL）",
    "figure.decode_tokens_per_s": "解碼速度",
    "figure.end_to_end_tokens_per_s": "端到端速度",
    "figure.cold_ttft_s": "第一次生成的 TTFT",
    "figure.cold_itl_s": "第一次生成的 ITL",
    "figure.load_s": "模型載入",
    "figure.compile_s": "編譯",
    "figure.itl_p50_s": "解碼步，p50",
    "figure.itl_p90_s": "解碼步，p90",
    "figure.itl_p95_s": "解碼步，p95",
    "figure.itl_p99_s": "解碼步，p99",
    "figure.itl_tokens": "百分位數所依據的步數",
    "figure.step_lane_cost": "逐步計時的代價",
    "figure.trace_cost": "詞元信心度的代價",
    "figure.acceptance": "候選詞元接受率",
    "figure.tokens_per_pass": "每次前向計算的詞元數",
    "figure.draft_weights_bytes": "草稿模型，權重",
    "figure.draft_kv_cache_bytes": "草稿模型，KV 快取",
    "figure.pass_s": "一次前向計算的時間",
    "figure.weights_bytes": "權重",
    "figure.kv_cache_bytes": "KV 快取（實測）",
    "figure.kv_cache_predicted_bytes": "KV 快取（理論值）",
    "figure.kv_cache_storage_bytes": "KV 快取（實際儲存）",
    "figure.peak_allocated_bytes": "torch 配置峰值",
    "figure.peak_reserved_bytes": "torch 保留峰值",
    "figure.device_used_bytes": "整卡記憶體用量",
    "figure.process_rss_bytes": "行程記憶體（RSS）",
    "figure.step_peak_bytes": "一步的峰值",
    "figure.allocator_slack_bytes": "配置器保留未用",
    "figure.device_context_bytes": "CUDA context 佔用",
    "figure.kernels_bytes": "kernel 與執行計畫（plan）",
    "figure.elsewhere_bytes": "驅動程式及其他行程",
    "figure.unexplained_bytes": "來源不明",
    "figure.padding_share": "填充到桶",
    "figure.proof_steps_checked": "檢查過的步數",
    "figure.proof_violations": "不合要求的步數",
    "figure.joules_per_token": "每個詞元的能耗",
    "figure.idle_watts": "閒置功率",
    "figure.energy_window_s": "能耗測量時長",
    "figure.floor_s": "單步最短時間",
    "figure.mbu": "頻寬利用率（MBU）",
    "figure.mfu": "算力利用率（MFU）",
    "figure.launch_s": "單步主機開銷",
    "computed.ttft_s": (
        "從送入提示詞到裝置上得到第一個新詞元的時間，取一個測量區塊中各批次的平均，再取各測量區塊的中位數。"
    ),
    "computed.itl_s": "一個測量區塊中解碼步的平均時間，以吞吐方式計時；取各測量區塊的中位數。",
    "computed.decode_tokens_per_s": "每個序列第一個之後的新詞元數 ÷ 解碼時間，以吞吐方式計時；取各測量區塊的中位數。",
    "computed.end_to_end_tokens_per_s": "全部新詞元數 ÷（TTFT + 解碼時間），以吞吐方式計時；取各測量區塊的中位數。",
    "computed.cold_ttft_s": "該組在本行程中第一次生成的 TTFT；單獨列出，不計入平均。",
    "computed.cold_itl_s": "該組第一次生成的解碼步平均時間；單獨列出，不計入平均。",
    "computed.load_s": "從開啟權重檔案到模型在裝置上就緒的時間。",
    "computed.compile_s": "第一次生成中用於編譯或擷取的時間，每種形狀一次。",
    "computed.itl_p50_s": "逐詞元計時的單一解碼步的第 50 百分位數；僅供描述，各步之間相關。",
    "computed.itl_p90_s": "逐詞元計時的單一解碼步的第 90 百分位數；僅供描述，各步之間相關。",
    "computed.itl_p95_s": "逐詞元計時的單一解碼步的第 95 百分位數；僅供描述，各步之間相關。",
    "computed.itl_p99_s": "逐詞元計時的單一解碼步的第 99 百分位數；僅供描述，各步之間相關。",
    "computed.itl_tokens": "以逐詞元方式逐個計時的解碼步數。",
    "computed.step_lane_cost": "逐詞元計時的解碼時間 ÷ 吞吐方式的解碼時間，減 1。",
    "computed.trace_cost": "記錄詞元信心度時的解碼時間 ÷ 吞吐方式的解碼時間，減 1。",
    "computed.acceptance": "被接受的詞元數 ÷ 提出的候選詞元數。",
    "computed.tokens_per_pass": "新詞元數 ÷ 模型的前向計算次數，包括預填充。",
    "computed.draft_weights_bytes": "草稿模型在主模型之外占用的權重位元組數；草稿就是主模型自己時為 0。",
    "computed.draft_kv_cache_bytes": "一次前向計算之後，草稿模型的快取占用的最大位元組數。",
    "computed.pass_s": "解碼時間 ÷ 第一次之後的前向計算次數，包括草稿模型在此之前的計算；取各測量區塊的中位數。",
    "computed.weights_bytes": "模型參數和緩衝區的位元組數，共用的只算一次。",
    "computed.kv_cache_bytes": "最大的批次結束時，快取各層持有的張量之和。",
    "computed.kv_cache_predicted_bytes": (
        "只由模型設定得出：2 × 層數 × KV 頭數 × 頭的維度 × 每個數的位元組數 × 詞元數 × 序列數。"
    ),
    "computed.kv_cache_storage_bytes": "快取張量背後互不相同的儲存的位元組數。",
    "computed.peak_allocated_bytes": "清空之後，該組不計時的計算期間 torch 配置器的最高值。",
    "computed.peak_reserved_bytes": "同一次計算期間，torch 配置器從裝置取得的最高值。",
    "computed.device_used_bytes": "驅動程式回報的整個裝置上所有行程的佔用。",
    "computed.process_rss_bytes": "該組不計時的計算之後，被測行程的常駐記憶體。",
    "computed.step_peak_bytes": "配置峰值減去權重和快取：一步的活化值、提示詞和工作區。",
    "computed.allocator_slack_bytes": "保留峰值減去配置峰值：已從裝置取得，但從未同時使用。",
    "computed.device_context_bytes": "在載入任何內容之前，啟動 CUDA 所佔的顯示記憶體。",
    "computed.kernels_bytes": "在這次計算之前進入配置器之外的部分：kernel 程式碼、執行計畫（plan）、函式庫的控制代碼。",
    "computed.elsewhere_bytes": "本行程使用裝置之前已被佔用的部分：驅動程式和其他行程。",
    "computed.unexplained_bytes": "已用顯示記憶體減去以上各項、權重和快取。",
    "computed.padding_share": "沒有快取的解碼步送入的詞元數 ÷ 實際需要的詞元數，減 1；長度恰好時為 0。",
    "computed.proof_steps_checked": "檢查過送入內容（詞元、快取長度）是否符合模式要求的前向計算次數。",
    "computed.proof_violations": "其中不符合要求的次數；有一次，執行就是 INVALID（無效）。",
    "computed.joules_per_token": "裝置的能量計數器在多次重複生成期間的讀數（包括預填充和閒置功率）÷ 新詞元數。",
    "computed.idle_watts": "測量之前的裝置功率：模型已載入，沒有執行任何計算。",
    "computed.energy_window_s": "讀取能量的時間長度。",
    "computed.floor_s": "依本機實測的頻寬和 FLOP 速率，一個解碼步最短需要的時間。",
    "computed.mbu": "達到的記憶體頻寬 ÷ 本機實測的上限。",
    "computed.mfu": "達到的 FLOP 速率 ÷ 本機實測的上限。",
    "computed.launch_s": "一個解碼步中，主機在啟動 kernel 而裝置沒有計算的時間。",
    # The sentences of the diagnosis.
    "diagnosis.arithmetic": "快取省去了多少運算，這又換來多少時間。",
    "diagnosis.reading": "一步必須讀取權重和快取：依本機頻寬讀完需要一定時間，實際耗時比這更長。",
    "diagnosis.cache_bytes": "快取到執行結束時佔用的記憶體，隨詞元數增加。",
    "diagnosis.energy": "兩組每個詞元的能耗不同。",
    "diagnosis.communication": "一步的時間中，有一部分用於各行程之間交換張量（張量平行的通訊）。",
    "diagnosis.rebuilding": "快取遺失後重建它的代價。",
    "diagnosis.launch": (
        "單步大多耗在 CPU 啟動 kernel 上，上下文較短時快取省不出時間；請用 torch.compile 或 CUDA Graph，或加大批次。"
    ),
    "diagnosis.break_even": "快取從多長的上下文開始划算。",
    "diagnosis.growth": "從最短到最長的上下文，各組的一步變為幾倍長。",
    "diagnosis.first_visit": (
        "首次遇到某個長度的一步更慢，而真實解碼的每一步都是新長度；換用另一種 attention 也許可以避免。"
    ),
    "diagnosis.preparing": "編譯或擷取在第一次生成時花的時間，每種形狀一次。",
    "diagnosis.padding": "填充到桶的整數倍，使一步多送入了詞元；較小的桶增加得少，但要準備更多形狀。",
    "diagnosis.all_logits": "迴圈為所有位置計算 logits，而只有最後一個位置有用；請只要求最後一個。",
    "diagnosis.habit": "手寫迴圈中的這種寫法使一步變慢；請改掉它。",
    "diagnosis.proposals": "候選詞元有多少被接受，一次前向計算因此得到幾個詞元，以及這是否划算。",
    "diagnosis.shared_prefix": "各提示詞共同的開頭只計算一次，預填充因此少送入一些詞元。",
    "diagnosis.unused_cache": "這一組有快取，卻在每一步重新送入全部詞元：它沒有使用快取。",
    "diagnosis.broken_promise": "有的步送入的內容不符合模式的要求，所以這些時間不代表該模式。",
    "diagnosis.other_output": "這一組算出的結果與基準不同，所以速度不算數。",
    "diagnosis.throttled": "裝置降頻了：請讓它冷卻，再重新測量。",
    "diagnosis.few_blocks": "測量區塊太少，不足以得出結論：請調高 measure.blocks。",
    "diagnosis.ambiguous": "區間太寬，無法判斷：請調高 measure.blocks，或減少其他負載。",
    "diagnosis.host_speed": (
        "主機的速度在執行期間變化，或與測量上限時不同；單這一點就可能解釋較慢的步，所以不再指出其他原因。"
    ),
    "diagnosis.unlike_engines": "兩組使用不同的執行引擎（engine），所以比值不只反映快取。",
    "diagnosis.random_weights": "權重是隨機的：時間和記憶體可信，但就算快取有錯，輸出比較也幾乎看不出來。",
    "diagnosis.no_ceilings": (
        "還沒有本機的硬體上限，無法說明離它有多近：請執行 `python -m kvbench doctor --ceilings`。"
    ),
    # Warnings.
    "warning.clocks": "裝置的時脈在各測量區塊之間變化：請鎖定時脈，或只看在測量區塊內部比較的比值。",
    "warning.cpu_governor": "CPU 的時脈隨負載變化，短的步可能沒有全速執行：請改用 performance 調頻策略。",
    "warning.debug_build": "這個 torch 是除錯版本，慢好幾倍：請安裝正式版本。",
    "warning.device_shared": "還有其他行程在使用這個裝置，它們分走時間和顯示記憶體。",
    "warning.drift": "從最初的測量區塊到最後的，速度逐漸變化；加速比在測量區塊內部比較，幾乎不受影響。",
    "warning.host_busy": "測量期間其他行程佔用了 CPU：請關閉其他程式。",
    "warning.host_fast": "主機比測量上限時快：保存的上限已經過時，請重新執行 `kvbench doctor --ceilings`。",
    "warning.host_load": "執行開始時機器負載較高，其他程式可能使它變慢。",
    "warning.host_moved": "執行期間主機的速度變了：請關閉其他程式，或稍後再測。",
    "warning.host_slow": "主機比測量上限時慢：請關閉其他程式，或稍後再測。",
    "warning.larger_error": "這一組的捨入誤差比單純的重新計算大，不像是偶然；其他 kernel 也會這樣。",
    "warning.memory_headroom": "顯示記憶體幾乎用滿，配置器會反覆歸還和索取記憶體，這要花時間。",
    "warning.no_steps": "沒有單一步的表。",
    "warning.no_text": "沒有分詞器：提示詞是詞元編號，紀錄中沒有文字。",
    "warning.noise": "解碼步的時間在各測量區塊之間波動較大：請調高 measure.blocks，或關閉其他程式。",
    "warning.on_battery": "機器正在用電池，時脈可能被壓低：請接上電源。",
    "warning.padding_is_text": (
        "模型把填充當成了文字，所以批次中較短的提示詞得到不同的結果：請設 workload.batch_size=1，或使用等長的提示詞。"
    ),
    "warning.adapter": "套用了 PEFT adapter：每一步都包含它的層，所以這些數字不是基底模型的。",
    "warning.peft_wrapper": "測量的是去掉 PEFT 包裝的模型；adapter 的層包括在內，包裝本身的開銷不包括。",
    "warning.power_cap": "功率上限壓低了時脈：這些時間是在此上限下的。",
    "warning.quantised_cache": "快取量化改變了較多詞元，所以寫出的是另一段文字：請保留更多的位數，或使用普通快取。",
    "warning.random_prompts": "沒有分詞器，也沒有提示詞：提示詞是隨機的詞元編號。時間是真實的，寫出的內容沒有意義。",
    "warning.random_weights": "權重是隨機的：時間和記憶體可信，但就算快取有錯，輸出比較也幾乎看不出來。",
    "warning.reference_failed": "無法與更高精度的同一模型比較。",
    "warning.sensors_lost": "裝置的感測器中途沒有回應，不知道它是否降頻。",
    "warning.stand_in_text": "模型沒有自己的分詞器，提示詞由位元組換算而成，寫出的文字沒有意義。",
    "warning.stopping_cap": (
        "達到測量區塊數或時間的上限而停止，還沒有達到想要的精度：請調高 measure.max_blocks 或 measure.budget_s，"
        "或關閉其他程式。"
    ),
    "warning.sweep_moved": "掃描期間機器的速度變了，各點之間的比較要謹慎。",
    "warning.tokens_vary": "計時的生成寫出了與不計時的不同的詞元：kernel 不是確定性的，或有狀態被帶到下一次。",
    "warning.transformers_untested": "kvbench 沒有用這個版本的 transformers 測試過。",
    "warning.unused_tensors": "檢查點中有一些張量，模型結構裡沒有它們的位置。",
    "warning.worker_state": "上一次執行在工作行程中留下了狀態。",
    # Checks.
    "check.mode_proof": "每一步送入的內容（詞元和快取長度）都符合模式要求。",
    "check.token_count": "每個序列寫出的新詞元數都符合要求。",
    "check.decode_steps": "每個測量區塊中都有解碼速度。",
    "check.blocks": "測量區塊數足以得出結論。",
    "check.throttling": "裝置沒有明顯降頻。",
    "check.ranks": "張量平行的各行程寫出的詞元相同，持有的位元組數與理論值一致。",
    "check.rescore": "解碼給出的對數機率與對全文做一次前向計算得到的一致。",
    "check.agreement": "各組的輸出一致。",
    "check.interruption": "遺失快取的一組，寫出的詞元與保留快取的一組相同。",
    "check.frontier": "每次搜尋都找到了邊界或到達上限。",
    "check.audit_timed_tokens": "自我檢查：計時沒有改變解碼出的詞元。",
    "check.audit_same_arm_twice": "自我檢查：同一組測兩次，沒有被判為不同。",
    "check.audit_fresh_prompts": "自我檢查：重複的提示詞像新的提示詞一樣重新解碼。",
    # Checks that failed: what that means, and what to do.
    "check.mode_proof.failed": (
        "有的步送入的內容（詞元或快取長度）不符合模式要求：模型或它的快取沒有依這個模式運作，這些時間不代表該模式。"
    ),
    "check.token_count.failed": "寫出的新詞元數不符合要求：解碼提前停止或沒有停下，速率不能比較。",
    "check.decode_steps.failed": "沒有可用的解碼速度：請設 workload.stop=ignore，或讓生成更長（workload.new_tokens）。",
    "check.blocks.failed": "測量區塊太少，不足以得出結論：請調高 measure.blocks。",
    "check.throttling.failed": "裝置降頻太多：請讓它冷卻，再重新測量。",
    "check.ranks.failed": (
        "張量平行的各行程寫出的詞元不同，或持有的位元組數與理論值不符：它們沒有一起解碼同一個模型，這些時間不代表它。"
    ),
    "check.rescore.failed": "解碼給出的對數機率與對全文做一次前向計算得到的不同，或無法判斷：兩者之間的機率比不可用。",
    "check.agreement.failed": "輸出不同，或未經比較：這樣的加速比不算數。",
    "check.interruption.failed": "遺失快取的一組寫出的詞元不同：中斷之後重建的快取與遺失的不一樣。",
    "check.frontier.failed": (
        "有的搜尋沒有找到邊界：請設 frontier.max_context 或 frontier.max_batch，或放寬 frontier.resolution。"
    ),
    "check.audit_timed_tokens.failed": "自我檢查：計時改變了解碼出的詞元，這些時間不代表原來的計算。",
    "check.audit_same_arm_twice.failed": (
        "自我檢查：同一組測兩次被判為不同，機器波動太大；請關閉其他程式，或調高 measure.blocks。"
    ),
    "check.audit_fresh_prompts.failed": "自我檢查：有內容從一次生成留到下一次，重複的提示詞沒有重新解碼。",
    # What checks and warnings are called, beside their codes.
    "name.mode_proof": "mode_proof（輸入檢查）",
    "name.token_count": "token_count（詞元數）",
    "name.decode_steps": "decode_steps（解碼速度）",
    "name.blocks": "blocks（測量區塊數）",
    "name.throttling": "throttling（降頻）",
    "name.ranks": "ranks（張量平行）",
    "name.rescore": "rescore（對數機率）",
    "name.agreement": "agreement（輸出一致性）",
    "name.interruption": "interruption（中斷）",
    "name.frontier": "frontier（邊界搜尋）",
    "name.audit_timed_tokens": "audit_timed_tokens（自我檢查：詞元）",
    "name.audit_same_arm_twice": "audit_same_arm_twice（自我檢查：重複測量）",
    "name.audit_fresh_prompts": "audit_fresh_prompts（自我檢查：新提示詞）",
    "name.clocks": "clocks（時脈變化）",
    "name.cpu_governor": "cpu_governor（CPU 調頻）",
    "name.debug_build": "debug_build（除錯版本）",
    "name.device_shared": "device_shared（裝置被共用）",
    "name.drift": "drift（速度漂移）",
    "name.host_busy": "host_busy（CPU 被佔用）",
    "name.host_fast": "host_fast（主機變快）",
    "name.host_load": "host_load（主機負載）",
    "name.host_moved": "host_moved（主機速度變化）",
    "name.host_slow": "host_slow（主機變慢）",
    "name.larger_error": "larger_error（誤差較大）",
    "name.memory_headroom": "memory_headroom（顯示記憶體將滿）",
    "name.no_steps": "no_steps（沒有單步資料）",
    "name.no_text": "no_text（沒有文字）",
    "name.noise": "noise（波動）",
    "name.on_battery": "on_battery（使用電池）",
    "name.padding_is_text": "padding_is_text（填充被當作文字）",
    "name.peft_wrapper": "peft_wrapper（PEFT 包裝）",
    "name.power_cap": "power_cap（功率上限）",
    "name.quantised_cache": "quantised_cache（快取量化）",
    "name.random_prompts": "random_prompts（隨機提示詞）",
    "name.random_weights": "random_weights（隨機權重）",
    "name.reference_failed": "reference_failed（沒有高精度參照）",
    "name.sensors_lost": "sensors_lost（感測器無回應）",
    "name.stand_in_text": "stand_in_text（替代文字）",
    "name.stopping_cap": "stopping_cap（達到上限）",
    "name.sweep_moved": "sweep_moved（掃描期間速度變化）",
    "name.tokens_vary": "tokens_vary（詞元不穩定）",
    "name.transformers_untested": "transformers_untested（未測試的版本）",
    "name.unused_tensors": "unused_tensors（多餘的張量）",
    "name.worker_state": "worker_state（殘留狀態）",
    "name.adapter": "adapter（套用了 adapter）",
}

# The sentences of a record, clause by clause: the English ones and their figures are in `patterns.py`.
CLAUSES: Mapping[str, str] = {
    "whole": "{clauses}。",
    "diagnosis.launch.both": "兩組的一步耗時 {steps}，其中裝置只工作 {busy}，其餘時間耗在 CPU 啟動 kernel 上",
    "diagnosis.launch.one": "{arm} 的一步耗時 {step}，其中裝置只工作 {busy}，其餘時間耗在 CPU 啟動 kernel 上",
    "diagnosis.launch.calls": (
        "{arm} 的一步耗時 {step}，其中呼叫運算子（共 {operations} 次，與計算量無關）估計佔 {calls}"
    ),
    "diagnosis.launch.more-calls": "；{arm} 的一步耗時 {step}，其中呼叫運算子（共 {operations} 次）估計佔 {calls}",
    "diagnosis.launch.below": "；上下文短於約 {tokens} 個詞元時，快取省下的時間被它掩蓋",
    "diagnosis.launch.tried": "。這次執行中，{mode} 用 engine={engine} 時每步耗時 {step}",
    "diagnosis.launch.arms": "。可以試試這樣的測試組：{arms}",
    "diagnosis.launch.keys": "。可以試試 {keys}",
    "diagnosis.launch.fewer-launches": (
        "。減少 kernel 的啟動次數，或讓每個 kernel 做更多工作，會有幫助：用 torch.compile 或 CUDA Graph"
        "（engine=compiled 或 graph），或加大批次"
    ),
    "diagnosis.launch.fewer-operations": (
        "。減少運算子的呼叫次數，或讓每個運算子做更多工作，會有幫助：用 torch.compile（engine=compiled），或加大批次"
    ),
    "diagnosis.first_visit.either": ("首次遇到某個長度時，兩組的一步都耗時 {whole} {unit}，其中 {extra} {unit} "),
    "diagnosis.first_visit.both": (
        "首次遇到某個長度時，{arm} 的一步耗時 {whole} {unit}，其中 {extra} {unit}（{other}：{other_whole} {other_unit} "
        "中的 {other_extra} {other_unit}）"
    ),
    "diagnosis.first_visit.one": "首次遇到某個長度時，{arm} 的一步耗時 {whole} {unit}，其中 {extra} {unit} ",
    "diagnosis.first_visit.cudnn": "是 cuDNN 在為它制定執行計畫",
    "diagnosis.first_visit.attention": "是 attention 在為它做準備",
    "diagnosis.first_visit.alone": "是這個長度的一次性開銷",
    "diagnosis.first_visit.allocations": "伴隨著裝置上的 {count} 次記憶體配置",
    "diagnosis.first_visit.always": "；而真實解碼的每一步都是新長度",
    "diagnosis.first_visit.avoids": "。改用 attention={attention} 可以避免：首次只需 {first}",
    "diagnosis.preparing.compiling": "{arm} 的第一次生成中，編譯用了 {time}",
    "diagnosis.preparing.capturing": "{arm} 的第一次生成中，擷取用了 {time}",
    "diagnosis.preparing.building": "{arm} 的第一次生成中，建置 kernel 用了 {time}",
    "diagnosis.preparing.preparing": "{arm} 的第一次生成中，準備工作用了 {time}",
    "diagnosis.preparing.more": "，{arm} 用了 {time}",
    "diagnosis.preparing.each-shape": "，每種形狀一次",
    "diagnosis.preparing.paid-back": "；與 {other} 相比，約 {steps} 步之後賺回來",
    "diagnosis.padding.all": (
        "填充到 {bucket} 個詞元的整數倍，使 {arm} 的一步多送入 {share}：桶越小，多出的越少，但要準備的形狀越多"
    ),
    "diagnosis.all_logits.loop": "{arm} 的迴圈為每個位置都計算 logits",
    "diagnosis.all_logits.drops": "，還建立一個隨即丟棄的快取",
    "diagnosis.all_logits.built-in": "（這種模型架構只能如此）",
    "diagnosis.all_logits.measured": "：佔它耗時的 {share}",
    "diagnosis.all_logits.predicted": "：預計它的運算有 {share} 用於沒有人讀取的 logits",
    "diagnosis.habit.one": "{habit} 這種寫法",
    "diagnosis.habit.several": "{habits} 這幾種寫法合起來",
    "diagnosis.habit.share": "佔一步耗時的 {share} [{low}, {high}]",
    "diagnosis.habit.nothing": "沒有可見的代價：整個區間都在 ±{band} 以內",
    "diagnosis.habit.memory": "，記憶體峰值還多 {memory}",
    "diagnosis.arithmetic.all": (
        "{first} 的一步要做 {flops} 運算，{second} 的一步 {less}：前者的運算量是後者的 {factor} 倍，耗時是 {times} 倍"
    ),
    "diagnosis.arithmetic.padding": "（不計填充給 {arm} 增加的 {share}）",
    "diagnosis.arithmetic.bound": "；{arm} 的瓶頸是計算，達到本機 FLOP 速率的 {share}（MFU）",
    "diagnosis.break_even.begin": "損益平衡點：",
    "diagnosis.break_even.crosses": (
        "從約 {tokens} 個詞元的上下文起，{candidate} 的一步比 {baseline} 的快（{level} 信賴區間 {low} 至 {high}）"
    ),
    "diagnosis.break_even.knee": (
        "從約 {tokens} 個詞元的上下文起，{baseline} 的一步不再只是啟動 kernel 的時間，{candidate} 的一步更快"
        "（{level} 信賴區間從 {low} 以下至 {high}）"
    ),
    "diagnosis.break_even.unclear": (
        "無法判斷：在 {low} 至 {high} 個詞元之間，{candidate} 的一步既不明顯快於也不明顯慢於 {baseline} 的"
    ),
    "diagnosis.break_even.always": (
        "不在測量範圍之內：從 {low} 到 {high} 個詞元，{candidate} 的一步在每個長度上都更快"
    ),
    "diagnosis.break_even.never": (
        "不在測量範圍之內：從 {low} 到 {high} 個詞元，{candidate} 的一步在任何長度上都不更快"
    ),
    "diagnosis.break_even.since": "從 {tokens} 個詞元起，{candidate} 的一步明顯更快；更短時無法判斷",
    "diagnosis.break_even.until": "到 {tokens} 個詞元為止，{candidate} 的一步明顯更慢；更長時無法判斷",
    "diagnosis.break_even.interval-by-points": "；規律與測量點不符，所以區間只依據測量點",
    "diagnosis.break_even.by-points": "；規律與測量點不符，所以只依據測量點",
    "diagnosis.growth.all": (
        "上下文從 {shortest} 到 {longest} 個詞元，{first} 的一步變為 {grown} 倍長，{second} 的變為 {other} 倍"
    ),
    "diagnosis.proposals.nothing": "{arm} 沒有找到可提出的候選：每次前向計算只得到一個詞元，與 {other} 一樣",
    "diagnosis.proposals.accepted": "候選詞元有 {share} 被接受，{arm} 的一次前向計算平均得到 {per_pass} 個詞元",
    "diagnosis.proposals.time": "；一次前向計算耗時 {time}，而 {other} 的一步耗時 {step}",
    "diagnosis.proposals.pays": "，划算：解碼速度為基準的 {ratio}",
    "diagnosis.proposals.costs": "，得不償失：解碼速度只有基準的 {ratio}",
    "diagnosis.proposals.draft": "。草稿模型的權重另佔 {bytes}",
    "diagnosis.shared_prefix.all": (
        "各提示詞共同的 {shared} 個詞元只計算一次：預填充送入 {once} 個詞元，而不是 {whole} 個"
    ),
    "diagnosis.shared_prefix.time": "，首詞元延遲為 {mine}，而不是 {theirs}",
    "diagnosis.reading.all": (
        "{arm} 的一步要讀取 {read} 的權重和快取：依本機的頻寬 {rate} 需要 {least}，實際耗時 {step}（MBU {used}）"
    ),
    "diagnosis.reading.near": ("，已接近本機的極限：只有減少讀取的位元組數，或讓每次讀取服務更多序列，才能再提高"),
    "diagnosis.rebuilding.all": "在 {tokens} 個詞元處重建遺失的快取用了 {time}",
    "diagnosis.rebuilding.paid-back": "，再生成 {steps} 個新詞元就賺回來",
    "diagnosis.communication.all": (
        "{arm} 的一步耗時 {step}，其中 {time} 是 {ranks} 個行程（rank）之間的通訊（{share}）"
    ),
    "diagnosis.communication.other": "；{other} 的 {other_step} 中有 {other_time}",
    "diagnosis.cache_bytes.one": "執行結束時，一個序列的快取佔 {held}",
    "diagnosis.cache_bytes.many": "執行結束時，{sequences} 個序列的快取共佔 {held}",
    "diagnosis.cache_bytes.whole-one": "快取一次配置完畢：一個序列佔 {held}",
    "diagnosis.cache_bytes.whole-many": "快取一次配置完畢：{sequences} 個序列共佔 {held}",
    "diagnosis.cache_bytes.token-of-each": "，每個序列的每個詞元 {per_token}",
    "diagnosis.cache_bytes.token": "，每個詞元 {per_token}",
    "diagnosis.cache_bytes.higher": "；記憶體峰值比沒有快取時高 {apart}",
    "diagnosis.cache_bytes.lower": "；記憶體峰值比沒有快取時低 {apart}",
    "diagnosis.energy.cache-saves": "快取使每個詞元的能耗減少 {share}",
    "diagnosis.energy.cache-adds": "快取使每個詞元的能耗增加 {share}",
    "diagnosis.energy.saves": "{arm} 每個詞元的能耗減少 {share}",
    "diagnosis.energy.adds": "{arm} 每個詞元的能耗增加 {share}",
    "diagnosis.energy.instead": "：{mine}，而不是 {theirs}（含閒置功率）",
    "diagnosis.random_weights.all": "權重是隨機的：耗時與真實模型相同，但就算快取有錯，輸出比較也幾乎看不出來",
    "diagnosis.no_ceilings.all": "還不知道一步離本機的極限有多近：執行一次 `{command}` 即可測出",
    "diagnosis.unlike_engines.all": "這個比值不只反映快取，也反映執行引擎（engine）：{baseline} 對 {candidate}",
    "diagnosis.unlike_engines.none": "；沒有兩組只差快取",
    "diagnosis.unlike_engines.like": "。執行引擎相同時，{fast} 的解碼速度是 {slow} 的 {times} 倍",
    "diagnosis.unlike_engines.more": "，{fast} 是 {slow} 的 {times} 倍",
    "diagnosis.ambiguous.all": "區間從 {low} 到 {high}，因為比值在各測量區塊之間波動 {spread}",
    "diagnosis.ambiguous.hardly": ("；只增加測量區塊恐怕還是無法判斷：請關閉其他程式，或讓每個測量區塊解碼更多詞元"),
    "diagnosis.ambiguous.blocks": ("；如果估計值不變，約 {blocks} 個測量區塊就能得出結論（measure.blocks={blocks}）"),
    "diagnosis.throttled.most": "裝置在 {count} 個測量區塊中降頻",
    "diagnosis.throttled.causes": "（原因：{causes}）",
    "diagnosis.throttled.rest": "：這些時間不代表它的正常速度；請讓它冷卻一段時間，再重新測量",
    "diagnosis.throttled.some": (
        "計入的測量區塊中有 {count} 個降頻，其中兩種模式都比正常時慢；比值在測量區塊內部比較，影響不大"
    ),
    "diagnosis.few_blocks.all": "{count} 個測量區塊得出的區間並不可靠：{keys} 就夠了",
    "diagnosis.unused_cache.every": "{arm} 的迴圈在每一步都重新送入全部詞元：它沒有使用快取",
    "diagnosis.unused_cache.some": "{arm} 的迴圈在 {steps} 步中有 {again} 步重新送入全部詞元：它沒有使用快取",
    "diagnosis.broken_promise.all": "{arm} 的 {passes} 次前向計算中，有 {count} 次的輸入不符合模式要求",
    "diagnosis.broken_promise.first": "（最先是第 {place} 次：送入 {tokens} 個詞元，快取長度從 {before} 變為 {after}）",
    "diagnosis.broken_promise.first-past": (
        "（最先是第 {place} 次：送入 {tokens} 個詞元，快取長度從 {before} 變為 {after}，應為 {right}）"
    ),
    "diagnosis.broken_promise.rest": "：這些時間不代表該模式",
    "diagnosis.other_output.all": "{candidate} 計算的與 {baseline} 不同",
    "diagnosis.other_output.apart": "：兩者的 logits 相差 {apart}（相對於最大的 logit），而捨入只能解釋 {allowed}",
    "diagnosis.other_output.parts": (
        "：自由生成從第 {token} 個新詞元起不同，那裡最大的兩個 logit 相差 {apart}，捨入無法解釋"
    ),
    "diagnosis.other_output.rest": "，所以它的速度換來的是另一種輸出",
    # Warnings.
    "warning.noise.all": "{arm}：一步的耗時在各測量區塊之間波動 {spread}",
    "warning.noise.stands-out": "，{of} 個測量區塊中有 {count} 個明顯偏離，最多為中位數的 {most} 倍",
    "warning.noise.remedy": "：請調高 measure.blocks，或關閉其他程式",
    "warning.random_weights.all": "權重是隨機的：時間和記憶體可信，但就算快取有錯，輸出比較也幾乎看不出來",
    "warning.clocks.all": (
        "各測量區塊結束時，裝置的時脈在 {low} 與 {high} MHz 之間：請鎖定時脈（`nvidia-smi --lock-gpu-clocks`），"
        "或只看在測量區塊內部比較的比值"
    ),
    "warning.power_cap.all": "裝置的功率上限在 {of} 個測量區塊中的 {count} 個裡壓低了時脈：這些時間是在此上限下的",
    "warning.memory_headroom.all": "顯示記憶體用了 {full}：接近用滿時，配置器會反覆歸還和索取顯示記憶體，這要花時間",
    "warning.device_shared.all": "還有 {count} 個其他行程在使用這個裝置，它們分走時間和顯示記憶體",
    "warning.host_busy.all": "測量期間，其他行程平均佔用 {cores} 個 CPU 核心，會拖慢每一步中主機的部分",
    "warning.host_load.all": "執行開始時的平均負載為 {load}（{cores} 個邏輯核心）：其他程式可能使它變慢",
    "warning.cpu_governor.all": (
        "CPU 的時脈隨負載變化（調頻策略為 {governor}），短的步可能沒有全速執行："
        "`cpupower frequency-set -g performance` 可以固定它"
    ),
    "warning.on_battery.all": "機器正在用電池，時脈可能被壓低：請接上電源",
    "warning.debug_build.all": "這個 torch 是除錯版本，比正式版本慢好幾倍：請安裝正式版本",
    "warning.host_moved.operation": "一次小運算在測量之前耗時 {before}，之後 {after}（{change}）",
    "warning.host_moved.product": "一次小矩陣乘法在測量之前耗時 {before}，之後 {after}（{change}）",
    "warning.host_moved.read": "讀取 {size} 在測量之前耗時 {before}，之後 {after}（{change}）",
    "warning.host_moved.moved": "，可見主機的速度在執行期間變了",
    "warning.host_moved.remedy": "：請關閉其他程式，或稍後再測",
    "warning.host_slow.operation": (
        "一次小運算耗時 {now}，而 `kvbench doctor --ceilings` 測量本機時為 {then}（{change}）"
    ),
    "warning.host_slow.product": (
        "一次小矩陣乘法耗時 {now}，而 `kvbench doctor --ceilings` 測量本機時為 {then}（{change}）"
    ),
    "warning.host_slow.read": "讀取 {size} 耗時 {now}，而 `kvbench doctor --ceilings` 測量本機時為 {then}（{change}）",
    "warning.host_slow.slower": "，可見主機比那時慢：請關閉其他程式，或稍後再測",
    "warning.host_fast.operation": (
        "一次小運算耗時 {now}，而 `kvbench doctor --ceilings` 測量本機時為 {then}（{change}）"
    ),
    "warning.host_fast.product": (
        "一次小矩陣乘法耗時 {now}，而 `kvbench doctor --ceilings` 測量本機時為 {then}（{change}）"
    ),
    "warning.host_fast.read": "讀取 {size} 耗時 {now}，而 `kvbench doctor --ceilings` 測量本機時為 {then}（{change}）",
    "warning.host_fast.faster": "，可見主機比那時快：保存的上限已經過時，請重新執行 `kvbench doctor --ceilings`",
    "warning.drift.slower": "從最初的測量區塊到最後的，{arm} 慢了 {change}",
    "warning.drift.faster": "從最初的測量區塊到最後的，{arm} 快了 {change}",
    "warning.drift.rest": (
        "（Kendall τ = {tau}，p = {p}）：它的中位數混合了不同的速度；加速比在測量區塊內部比較，幾乎不受影響"
    ),
    "warning.tokens_vary.all": (
        "{arm}：某次計時的生成寫出了與不計時的不同的詞元：kernel 不是確定性的，或有狀態被帶到下一次"
    ),
    "warning.larger_error.all": (
        "{arm}：捨入誤差是普通重新計算的 {ratio} 倍，在比較過的 {of} 個步和列中有 {count} 個更大：不像是偶然，"
        "不過其他 kernel 也會這樣"
    ),
    "warning.quantised_cache.all": (
        "{arm}：快取量化使比較過的步中有 {share} 最可能的詞元不同，所以寫出的是另一段文字：請保留更多的位數，"
        "或使用普通快取"
    ),
    "warning.sensors_lost.all": "裝置的感測器中途沒有回應，不知道之後它是否降頻",
    "warning.stopping_cap.blocks": (
        "測了 {blocks} 個測量區塊後達到上限，還沒有達到想要的精度：請調高 measure.max_blocks，或關閉其他程式"
    ),
    "warning.stopping_cap.budget": (
        "用了 {seconds} 後達到時間上限，還沒有達到想要的精度：請調高 measure.budget_s，或關閉其他程式"
    ),
    "warning.stopping_cap.many": "還沒有用完 {seconds} 的時間，就已達到 {blocks} 個測量區塊的上限",
    "warning.no_text.all": "沒有分詞器：提示詞是詞元編號，紀錄中沒有文字",
    "warning.random_prompts.all": (
        "沒有分詞器，也沒有提示詞：提示詞是詞彙表中隨機的詞元編號（種子 {seed}）。時間與真實提示詞相同，"
        "寫出的內容沒有意義，紀錄中沒有文字"
    ),
    "warning.transformers_untested.all": (
        "transformers {found} 比 kvbench 測試過的最新版本 {newest} 還新；如果出現問題，請執行 pip install "
        "transformers=={newest}"
    ),
    # Checks.
    "check.mode_proof.passed": "{steps} 步的輸入（詞元和快取長度）都符合模式要求",
    "check.token_count.exactly": "{visits} 次生成中，每個序列都正好寫出 {tokens} 個新詞元",
    "check.token_count.at-most": "{visits} 次生成中，每個序列都寫出 1 至 {tokens} 個新詞元",
    "check.token_count.failed": "{visits} 次生成中有 {wrong} 次寫出的詞元數不符合要求",
    "check.decode_steps.all": "{of} 個測量區塊中有 {count} 個沒有 {arm} 的解碼速度",
    "check.decode_steps.ended": "：每個序列都在第一個詞元就結束",
    "check.decode_steps.no-time": "：解碼步沒有耗時",
    "check.blocks.all": "測了 {blocks} 個測量區塊，得出結論至少需要 {least} 個",
    "check.agreement.arm": "{arm}：{output}",
    "check.ranks.same": "{visits} 次生成中，{ranks} 個行程（rank）寫出的詞元都相同",
    "check.ranks.different": "有 {count} 次生成，某個行程寫出的詞元與 rank 0 不同",
    "check.rescore.arm": "{arm}：{output}",
    "check.throttling.none": "{of} 個測量區塊都沒有降頻",
    "check.throttling.all": "{of} 個測量區塊中有 {count} 個降頻",
    "check.throttling.repeated": "（重新測量 {repeated} 個之後）",
    "check.throttling.causes": "（原因：{causes}）",
    "check.interruption.same": "{interrupted} 與 {kept} 寫出的詞元相同",
    "check.interruption.different": "{interrupted} 與 {kept} 寫出的詞元不同",
    "check.interruption.rounding": "，但沒有超出捨入誤差",
    "check.interruption.quantised": "，但沒有超出快取量化的影響",
    "check.frontier.all": "{of} 次搜尋中有 {count} 次找到了邊界或到達上限",
    "check.audit_timed_tokens.same": "{arm}：計時與不計時寫出的詞元相同",
    "check.audit_timed_tokens.different": "{arm}：{count} 次計時的生成寫出了與不計時的不同的詞元",
    "check.audit_same_arm_twice.arm": "{arm} 與自己相比為 {ratio}：{verdict}",
    "check.audit_fresh_prompts.arm": "{arm}：重複的提示詞的速度是新提示詞的 {ratio}：{verdict}",
    "agreement.not-checked": "沒有比較（check.agreement=none，或執行在此之前就結束了）",
    # How far apart two outputs are.
    "agreement.apart": "{steps} 步的 logits 最大相對差為 {apart}",
    "agreement.error": (
        "誤差是捨入本身的 {ratio} 倍（允許 {allowed}），最差的兩步為 {worst} 和 {second} 倍（允許 {worst_allowed} 和 "
        "{second_allowed}）"
    ),
    "agreement.reference": "；對照 {dtype} 下的同一模型，共 {over} 步",
    "agreement.first-arm": "；對照第一組，共 {over} 步",
    "agreement.batches": "（{batches} 批）",
    "agreement.path": "（各步輸入相同的詞元）",
    "agreement.logits": "；logits 的最大相對差為 {apart}",
    "agreement.rounding": "；單純捨入為 {noise}",
    "agreement.orders": "（{orders} 種其他求和順序中最大的：",
    "agreement.other-end": "倒序求和）",
    "agreement.shuffled": "亂序求和）",
    "agreement.twice": "列數加倍）",
    "agreement.padding": "填充 {columns} 欄）",
    "agreement.attention": "{attention} attention）",
    "agreement.allowed": "，允許 {limit}",
    "agreement.flips": "；最可能的詞元有 {flips} 次不同",
    "agreement.same": "；自由生成的詞元相同",
    "agreement.part": "；自由生成從第 {token} 個新詞元起不同",
    "agreement.prompt": "（提示詞 {prompt}）",
    "agreement.margin": "，那裡最大的兩個 logit 只差 {margin}",
    "agreement.near-tie": "：幾乎同分",
    "agreement.penalty": "：懲罰之後的分數幾乎同分",
    "agreement.draw": "：捨入改變了抽樣結果",
}
