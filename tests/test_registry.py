"""Auto classes and pipelines know the families, whichever of transformers and tkre_hf comes first, and however."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap

import pytest
import transformers
from transformers.models.auto import configuration_auto, modeling_auto, processing_auto

import tkre_hf
from tkre_hf import registry

# What every process below has to find in the end.
CHECK = """
from transformers import (
    AutoConfig, MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_PRETRAINING_MAPPING, MODEL_MAPPING, PROCESSOR_MAPPING
)
config = AutoConfig.for_model("tkre")
assert type(config) is tkre_hf.TKREConfig, type(config)
for table, name in [
    (MODEL_MAPPING, "TKREModel"), (MODEL_FOR_MASKED_LM_MAPPING, "TKREForMaskedSpanLM"),
    (MODEL_FOR_PRETRAINING_MAPPING, "TKREForPreTraining"), (PROCESSOR_MAPPING, "TKREProcessor"),
]:
    assert type(config) in table
    assert table[type(config)] is getattr(tkre_hf, name), name
config = AutoConfig.for_model("pfhin")
assert type(config) is tkre_hf.PFHINConfig, type(config)
assert MODEL_MAPPING[type(config)] is tkre_hf.PFHINModel
assert MODEL_FOR_PRETRAINING_MAPPING[type(config)] is tkre_hf.PFHINForPreTraining
print("registered")
"""


def run(code: str) -> str:
    """Runs a script in a process of its own."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "first",
    [
        # The tables are executed alone; inside of modeling_utils; inside of another package that is half imported.
        "from transformers import AutoConfig, AutoModel, AutoProcessor",
        "from transformers import PreTrainedModel",
        "import peft",
    ],
)
def test_tkre_hf_before_transformers(first):
    code = f"""
import sys
import tkre_hf
assert "transformers" not in sys.modules and "torch" not in sys.modules
{first}
assert not [name for name in sys.modules if name.startswith("tkre_hf.tkre")]  # still nothing of ours is imported
{CHECK}"""
    if "peft" in first:
        pytest.importorskip("peft")
    assert run(code) == "registered\n"


def test_transformers_before_tkre_hf():
    code = "from transformers import AutoModel, AutoModelForMaskedLM, AutoProcessor\nimport tkre_hf\n"
    assert run(code + CHECK) == "registered\n"


def test_a_name_of_tkre_hf_before_any_of_transformers():
    code = "import tkre_hf\nfrom tkre_hf.tkre.modeling_tkre import TKREModel\nassert TKREModel is tkre_hf.TKREModel\n"
    assert run(code + CHECK) == "registered\n"


def test_threads_that_import_both_at_once_all_find_the_families():
    # The transformers package comes first: threads that import it at once fail now and then, with or without tkre_hf.
    code = """
    import sys, threading, transformers
    assert "transformers.models.auto.configuration_auto" not in sys.modules
    sys.setswitchinterval(1e-6)
    imports = ["import tkre_hf", "from transformers import AutoModel", "from transformers import AutoConfig"]
    failures, barrier = [], threading.Barrier(6)

    def work(i):
        barrier.wait()
        try:
            exec(imports[i % 3])
            exec("import tkre_hf; from transformers import AutoConfig; assert AutoConfig.for_model('tkre')")
            exec("from transformers import MODEL_MAPPING; assert tkre_hf.TKREConfig in MODEL_MAPPING",
                 {"tkre_hf": sys.modules["tkre_hf"]})
        except BaseException as error:
            failures.append((imports[i % 3], repr(error)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures
    """
    run(code)


def test_what_others_registered_stays_theirs():
    code = """
    import warnings
    from transformers import MODEL_MAPPING, AutoConfig, BertConfig, BertModel

    class TheirConfig(BertConfig):
        model_type = "tkre"

    AutoConfig.register("tkre", TheirConfig)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import tkre_hf
    messages = [str(w.message) for w in caught if w.category is RuntimeWarning]
    assert len(messages) == 1 and "model type 'tkre' is already registered" in messages[0], messages
    assert type(AutoConfig.for_model("tkre")) is TheirConfig
    assert tkre_hf.TKREConfig not in MODEL_MAPPING
    """
    run(code)


def test_pipelines_before_tkre_hf_know_the_task_and_anothers_stays_theirs():
    code = """
    import sys
    from transformers.pipelines import PIPELINE_REGISTRY, Pipeline
    import tkre_hf
    task = PIPELINE_REGISTRY.check_task("relation-extraction")[1]
    assert "tkre_hf.tkre.pipeline" not in sys.modules  # the task's classes come when they are asked for
    assert task["impl"] is tkre_hf.RelationExtractionPipeline
    assert [model.__name__ for model in task["pt"]] == ["RelationExtractionModel"]

    class Theirs(Pipeline):
        pass

    PIPELINE_REGISTRY.register_pipeline("relation-extraction", Theirs)
    tkre_hf.registry.register()
    assert PIPELINE_REGISTRY.check_task("relation-extraction")[1]["impl"] is Theirs
    """
    run(code)


def test_a_users_own_class_overrides_ours_and_outlives_another_register():
    code = """
    import tkre_hf
    from transformers import AutoModel, MODEL_MAPPING

    class Mine(tkre_hf.TKREModel):
        pass

    AutoModel.register(tkre_hf.TKREConfig, Mine, exist_ok=True)
    tkre_hf.registry.register()
    assert MODEL_MAPPING[tkre_hf.TKREConfig] is Mine
    """
    run(code)


def test_registering_again_changes_nothing():
    tables = (
        configuration_auto.CONFIG_MAPPING_NAMES,
        modeling_auto.MODEL_MAPPING_NAMES,
        processing_auto.PROCESSOR_MAPPING_NAMES,
    )
    before = [dict(table) for table in tables]
    registry.register()
    registry.register()
    assert [dict(table) for table in tables] == before
    assert sum(finder is registry._FINDER for finder in sys.meta_path) == 1


def test_registered_classes_are_the_public_ones():
    for tables, module in ((registry.MODELS, modeling_auto), (registry.PROCESSORS, processing_auto)):
        for table, classes in tables.items():
            for model_type, name in classes.items():
                config = getattr(tkre_hf, registry.CONFIGS[model_type])
                assert config.model_type == model_type
                assert getattr(module, table)[config] is getattr(tkre_hf, name)
                assert config in getattr(module, table).keys()


def test_transformers_own_classes_and_loaders_are_as_before():
    assert type(transformers.AutoConfig.for_model("bert")) is transformers.BertConfig
    assert transformers.MODEL_MAPPING[transformers.BertConfig] is transformers.BertModel
    with pytest.raises(ValueError, match="no-such-model"):
        transformers.AutoConfig.for_model("no-such-model")
    assert "MODEL_MAPPING_NAMES" in inspect.getsource(modeling_auto)
    assert "tkre" not in dir(transformers.models)
