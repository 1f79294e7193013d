##@ Drawn bins
.PHONY: drawn-bins
drawn-bins: $(VENV)/ready ## a contact sheet of drawn bins, and the bins as a folder that SOURCE takes: build/drawn-bins
	@$(BIN)/python -m drawn --sheet build/drawn-bins.png --folder build/drawn-bins
	@echo "build/drawn-bins.png, build/drawn-bins/"
