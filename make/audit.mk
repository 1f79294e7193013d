##@ Which bins to recount
# Which bins to recount. COST is that of a recount, VALUE what a wrong record costs, in one unit.
SETTINGS += PHOTOS RECORDS BUDGET COST VALUE ERROR_RATE OUT FILE MOVES

.PHONY: audit
audit: $(VENV)/ready ## which bins to recount: PHOTOS=<folder or s3://…> RECORDS=<table>; BUDGET=200, or COST=1 VALUE=10; VERSION, MODEL, OUT
	@$(BIN)/python -m pipeline.audit $(call option,--photos,PHOTOS) $(call option,--records,RECORDS) \
	  $(call option,--version,VERSION) $(call option,--model,MODEL) $(call option,--budget,BUDGET) \
	  $(call option,--cost,COST) $(call option,--value,VALUE) $(call option,--error-rate,ERROR_RATE) $(call option,--out,OUT)

.PHONY: recounts
recounts: $(VENV)/ready ## what was counted comes back: FILE=.local/audit/recount.csv with its column `counted` filled in; MOVES=none or a table makes them labels
	@test -n "$$FILE" || { echo "error: FILE is missing: make recounts FILE=<the recount.csv that was filled in>" >&2; exit 2; }
	@$(BIN)/python -m pipeline.with_store $(BIN)/python -m components.audit.recount --file "$$FILE" $(call option,--moves,MOVES)

.PHONY: drawn-audit
drawn-audit: $(VENV)/ready ## bins to try `make audit` on, 5 % of their records wrong: build/drawn-audit
	@$(BIN)/python -m drawn --audit build/drawn-audit --count 1000 --seed 1
	@echo "build/drawn-audit/photos, records.json; the truth is in build/drawn-audit/truth.csv"
