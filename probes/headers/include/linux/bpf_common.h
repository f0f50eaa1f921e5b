/* Instruction macros: bcc carries its own. */
