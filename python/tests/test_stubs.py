"""What is public has a type and a text, and what has a type is there."""

import ast
import inspect
import pathlib

import pytest

import panta
from panta import _panta

STUB = pathlib.Path(_panta.__file__).with_name("_panta.pyi")


def declared():
    """Classes of the stub, and what each declares, with its bases' parts."""
    classes = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ClassDef):
            inherited = [classes[base.id] for base in node.bases if base.id in classes]
            own = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
            classes[node.name] = {k: v for each in inherited for k, v in each.items()} | own
    return classes


NAMES = sorted(name for name in dir(_panta) if inspect.isclass(getattr(_panta, name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_class_is_typed_and_explained(name):
    found = getattr(_panta, name)
    assert found.__doc__ and getattr(panta, name) is found and found.__module__ == "panta"
    members = {member for member in vars(found) if not member.startswith("_")}
    assert members == {member for member in declared()[name] if not member.startswith("_")}
    for member in members:
        assert inspect.getdoc(getattr(found, member)), f"{name}.{member} has no docstring"


@pytest.mark.parametrize("name", NAMES)
def test_a_method_is_typed_with_the_arguments_that_it_has(name):
    for member, node in declared()[name].items():
        made = getattr(_panta, name) if member == "__new__" else getattr(getattr(_panta, name), member)
        if any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list):
            continue
        if member.startswith("__") and member != "__new__":
            continue
        signature = [p for p in inspect.signature(made).parameters if p != "self"]
        arguments = [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
        assert signature == [a for a in arguments if a not in ("self", "cls")], member


def test_the_errors_are_listed_where_no_program_has_to_be_run_to_read_them():
    source = ast.parse(pathlib.Path(panta.errors.__file__).read_text())
    listed = [node.value for node in source.body
              if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    classes = [node.name for node in source.body if isinstance(node, ast.ClassDef)]
    assert sorted(ast.literal_eval(listed[0])) == sorted(classes)


def test_the_package_names_what_it_has_and_says_that_it_is_typed():
    assert set(NAMES) <= set(panta.__all__)
    assert all(hasattr(panta, name) for name in panta.__all__)
    assert STUB.with_name("py.typed").exists()
    assert panta.__version__ == _panta.__version__
