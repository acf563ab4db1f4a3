"""Recipes: everything that training on a table takes, from the rules of its columns to the last epoch, by name."""

from gradflow.recipes.base import AUTO as AUTO
from gradflow.recipes.base import AUTO_NETWORKS as AUTO_NETWORKS
from gradflow.recipes.base import RECIPES as RECIPES
from gradflow.recipes.base import Prepared as Prepared
from gradflow.recipes.base import Recipe as Recipe
from gradflow.recipes.base import TableTask as TableTask
from gradflow.recipes.base import get_recipe as get_recipe
from gradflow.recipes.plain import PlainRecipe as PlainRecipe
from gradflow.recipes.realmlp import RealMLPRecipe as RealMLPRecipe
from gradflow.recipes.tabm import TabMRecipe as TabMRecipe
from gradflow.recipes.tabpack import TabPackRecipe as TabPackRecipe
