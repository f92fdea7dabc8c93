"""Tokens of a conversation: the checkpoint's tokenizer and chat template, and a builder that only appends."""

from nano_agent_ros.prompt.builder import PromptBuilder, PromptError, clean
from nano_agent_ros.prompt.template import ChatTemplate
from nano_agent_ros.prompt.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "PromptBuilder", "PromptError", "Tokenizer", "clean"]
