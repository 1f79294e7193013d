##@ Your own bins
.PHONY: check
check: $(VENV)/ready ## what a folder of photos holds, and whether it is enough: make check SOURCE=<folder>
	@$(BIN)/python -m pipeline check $(ASSIGNMENTS)
