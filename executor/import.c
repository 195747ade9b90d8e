/* SPDX-License-Identifier: MIT */
#include "executor/import.h"
