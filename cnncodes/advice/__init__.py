"""Advice: recipe files, and where they are."""

from cnncodes.advice.recipes import find_recipe, recipe_files, recipe_summary

__all__ = ["find_recipe", "recipe_files", "recipe_summary"]
