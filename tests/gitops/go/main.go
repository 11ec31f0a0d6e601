// What GitOps tools make of recorded objects, by their own libraries: Flux's CEL evaluator and kstatus, and the Lua
// that Argo CD runs.
//
// Reads one JSON document from standard input, {"objects": {name: object}, "flux": {set: {kind: {current, failed,
// inProgress}}}, "lua": {kind: script}}, and writes {name: {"argo": …, "kstatus": …, set: …}}. Started by test_go.py.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type input struct {
	Objects map[string]json.RawMessage                             `json:"objects"`
	Flux    map[string]map[string]kustomize.HealthCheckExpressions `json:"flux"`
	Lua     map[string]string                                      `json:"lua"`
}

func main() {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fail(err)
	}
	out := map[string]map[string]string{}
	for name, raw := range in.Objects {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			fail(fmt.Errorf("%s: %w", name, err))
		}
		verdicts := map[string]string{"kstatus": alone(object), "argo": argo(in.Lua[object.GetKind()], object)}
		for set, kinds := range in.Flux {
			verdicts[set] = flux(kinds[object.GetKind()], object)
		}
		out[name] = verdicts
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fail(err)
	}
}

// flux gives the status that Flux's evaluator finds, Waiting where it cannot tell.
func flux(expressions kustomize.HealthCheckExpressions, object *unstructured.Unstructured) string {
	evaluator, err := cel.NewStatusEvaluator(&expressions)
	if err != nil {
		fail(err)
	}
	result, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return "Waiting"
	}
	return result.Status.String()
}

// alone gives what kstatus finds without being told of our kinds.
func alone(object *unstructured.Unstructured) string {
	result, err := status.Compute(object)
	if err != nil {
		fail(err)
	}
	return result.Status.String()
}

// argo runs a health script the way Argo CD does: gopher-lua with the base and table libraries.
func argo(script string, object *unstructured.Unstructured) string {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			fail(err)
		}
	}
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(script); err != nil {
		fail(err)
	}
	health, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		fail(fmt.Errorf("the script returned no table"))
	}
	return health.RawGetString("status").String()
}

func value(state *lua.LState, from any) lua.LValue {
	switch item := from.(type) {
	case bool:
		return lua.LBool(item)
	case string:
		return lua.LString(item)
	case int64:
		return lua.LNumber(item)
	case float64:
		return lua.LNumber(item)
	case []any:
		made := state.NewTable()
		for _, one := range item {
			made.Append(value(state, one))
		}
		return made
	case map[string]any:
		made := state.NewTable()
		for key, one := range item {
			made.RawSetString(key, value(state, one))
		}
		return made
	}
	return lua.LNil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
